//! The tables of the white paper's section 11.

use leyden_consensus::risk::RaceModel::Poisson;

use crate::support::vector_json;

#[test]
fn attacker_probabilities_are_those_of_the_white_paper() {
    let Some(tables) = vector_json("whitepaper_section11.json") else { return };
    let mut cases = 0;
    for (table, share) in [("q0.1", 0.1), ("q0.3", 0.3)] {
        for row in tables[table].as_array().unwrap() {
            let z = row["z"].as_u64().unwrap() as u32;
            let success = Poisson.attacker_success(share, z);
            assert_eq!(format!("{success:.7}"), row["P"].as_str().unwrap(), "q {share} z {z}");
            cases += 1;
        }
    }
    for row in tables["P_lt_0.001"].as_array().unwrap() {
        let share: f64 = row["q"].as_str().unwrap().parse().unwrap();
        let wanted = row["z"].as_u64().unwrap() as u32;
        assert_eq!(Poisson.confirmations_for_risk(share, 0.001, 400), Some(wanted), "q {share}");
        cases += 1;
    }
    println!("white paper, section 11: {cases} cases");
    assert_eq!(cases, 30);
}
