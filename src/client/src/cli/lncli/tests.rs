//! What an lncli user types is taken, or answered with a word.

use clap::{CommandFactory, Parser};

use super::{super::Cli, calls::Kind, *};

/// lncli 0.22's commands, each with its flags; `=` stands behind those that take a value.
const COMMANDS: &str = include_str!("commands.txt");

fn commands() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    COMMANDS.lines().map(|line| {
        let (words, flags) = line.split_once(':').unwrap();
        (words, flags.split_whitespace().collect())
    })
}

fn told(line: &str) -> Result<String, String> {
    let typed = line.split_whitespace().map(str::to_owned).collect();
    translated_words(typed).map(|words| words.join(" ")).map_err(|error| error.to_string())
}

/// What was typed, translated and parsed.
fn parsed(line: &str) -> Cli {
    let told = told(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    Cli::try_parse_from(told.split_whitespace()).unwrap_or_else(|error| panic!("{line} became {told}: {error}"))
}

#[test]
fn every_command_of_lncli_is_taken_or_answered() {
    assert!(commands().count() > 130, "{}", commands().count());
    for (words, _) in commands() {
        let does = find(words).unwrap_or_else(|| panic!("{words} is not known"));
        match does {
            Does::Own(own) => assert!(own.definition().is_some(), "{words}: there is no {}", own.words),
            Does::Instead(text) => assert!(!text.is_empty() && !text.ends_with('.'), "{words}: {text}"),
            Does::Call(entry) => {
                let is_known =
                    leyden_proto::LND_CALLS.contains(&format!("| {} ", entry.call.split('/').nth(1).unwrap()));
                assert!(is_known, "{words}: LND has no {}", entry.call);
                assert_eq!(calls::absent(entry.call).is_none(), call::is_served(entry.call), "{words}: {}", entry.call);
            }
        }
    }
}

#[test]
fn no_name_is_there_twice() {
    let mut names: Vec<&str> = all().map(|(lncli, _)| lncli).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn every_flag_of_lncli_is_taken_or_answered() {
    let mut wrong = Vec::new();
    for (words, flags) in commands() {
        for flag in flags {
            let name = words::name_of(flag.trim_start_matches('-').trim_end_matches('='));
            let arity = match find(words).unwrap() {
                Does::Own(own) => {
                    let is_global = Cli::command().get_arguments().any(|argument| argument.get_long() == Some(&name));
                    match own.takes_value(&own.definition().unwrap(), &name) {
                        None if own::refusal(&name).is_some() || is_global => continue,
                        taken => taken,
                    }
                }
                // What is not served is answered whatever is typed.
                Does::Call(entry) if !call::is_served(entry.call) => continue,
                Does::Call(entry) => entry.takes_value(&name),
                Does::Instead(_) => continue,
            };
            // `--verbose` of `chain getblock` prints a struct of lncli's library.
            if (words, flag) == ("chain getblock", "--verbose") {
                continue;
            }
            if arity != Some(flag.ends_with('=')) {
                wrong.push(format!("{words} {flag}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_served_call_makes_a_request_of_all_its_arguments() {
    let hash = "ab".repeat(32);
    let mut made = 0;
    for entry in calls::CALLS.iter().filter(|entry| call::is_served(entry.call)) {
        let mut given = Given::default();
        for arg in entry.args.iter().filter(|arg| !matches!(arg.kind, Kind::Joined | Kind::NotServed(_))) {
            // A limit of fees is one of two, a template one of two, a rate one of three, a moment one of two.
            let others = ["conf-target", "sat-per-kw", "outputs", "inputs"];
            if arg.name == "fee-limit-percent"
                || entry.call.ends_with("/FundPsbt") && others.contains(&arg.name)
                || entry.call.ends_with("/DeleteForwardingHistory") && arg.name == "age"
            {
                continue;
            }
            let value = match arg.kind {
                Kind::Plain if ["time-pref", "max-fee-ratio"].contains(&arg.name) => "0.5".to_owned(),
                // Digits are text, numbers and hex.
                Kind::Plain => "12".to_owned(),
                Kind::Hash => hash.clone(),
                Kind::Outpoint | Kind::ChannelPoint => format!("{hash}:1"),
                Kind::Json if arg.field == "AddrToAmount" => r#"{"bcrt1q": 5000}"#.to_owned(),
                Kind::Json if arg.field == "raw.inputs" => "[]".to_owned(),
                Kind::Json if arg.field == "raw.outputs" => r#"{"bcrt1q": 5000}"#.to_owned(),
                Kind::Json => r#"[{"node_pubkey": "0203"}]"#
                    .replace(
                        "node_pubkey",
                        match arg.field {
                            "channels" => "node_pubkey",
                            _ => "hop_hints",
                        },
                    )
                    .replace("\"0203\"", if arg.field == "channels" { "\"0203\"" } else { "[]" }),
                Kind::Route => {
                    r#"{"route": {"total_time_lock": 5, "hops": [{"pub_key": "02ab", "chan_id": "7"}]}}"#.to_owned()
                }
                Kind::Seconds | Kind::DecayTime => "1m".to_owned(),
                Kind::Updated(_) => "203.0.113.7:9735".to_owned(),
                Kind::SatAsMsat => "5".to_owned(),
                Kind::ChannelId => "103x1x0".to_owned(),
                Kind::Name => match arg.name {
                    "action" => "disable".to_owned(),
                    "address-type" => "p2wkh".to_owned(),
                    "change-type" => "p2tr".to_owned(),
                    _ => "largest".to_owned(),
                },
                Kind::NodeAddress => "02ab@tower.example:9911".to_owned(),
                Kind::NodePair => "02ab:03cd".to_owned(),
                Kind::Base64 => "cHNidP8=".to_owned(),
                Kind::Utf8 => "hello".to_owned(),
                Kind::Switch | Kind::Const(_) | Kind::Nothing | Kind::Joined | Kind::NotServed(_) => String::new(),
            };
            given.flags.push((arg.name.to_owned(), Some(value)));
        }
        let (_, _, request) = call::request(entry, given).unwrap_or_else(|error| panic!("{}: {error}", entry.lncli));
        let served: Vec<_> = entry.args.iter().filter(|arg| !arg.field.is_empty()).collect();
        assert_eq!(served.is_empty(), prost::Message::encode_to_vec(&request).is_empty(), "{}", entry.lncli);
        made += 1;
    }
    assert!(made > 30, "{made}");
}

#[test]
fn what_fingers_know_becomes_what_leyden_has() {
    for (typed, becomes) in [
        ("leyden addinvoice --amt 5000 --memo=tea", "leyden addinvoice --memo=tea -- 5000"),
        ("leyden addinvoice --amt=5000 --private=true", "leyden addinvoice --private -- 5000"),
        ("leyden addinvoice 5000 abcd --private=false", "leyden addinvoice --preimage=abcd -- 5000"),
        (
            "leyden --json openchannel --node_key 02ab --local_amt 100 --push_amt=5 --sat_per_vbyte 3",
            "leyden --json openchannel --sat-per-vbyte=3 -- 02ab 100 5",
        ),
        ("leyden openchannel --node_key=02ab 100 5", "leyden openchannel -- 02ab 100 5"),
        (
            "leyden openchannel 02ab --connect h:1 --local_amt=9 --sat_per_byte 2",
            "leyden openchannel --connect=h:1 --sat-per-vbyte=2 -- 02ab 9",
        ),
        ("leyden sendpayment --pay_req lnbc1 -f --json", "leyden --json sendpayment --pay-req=lnbc1 -f"),
        ("leyden --json sendpayment --pay_req lnbc1 --json", "leyden --json sendpayment --pay-req=lnbc1"),
        ("leyden sendpayment -pay_req=lnbc1 --force", "leyden sendpayment --pay-req=lnbc1 --force"),
        ("leyden sendpayment 02ab 50 --keysend", "leyden sendpayment --dest=02ab --amt=50 --keysend"),
        ("leyden newaddress p2tr", "leyden newaddress -- p2tr"),
        ("leyden sendcoins --addr=bc1 --sweepall -f", "leyden sendcoins --sweepall --yes -- bc1"),
        ("leyden sendcoins --amt 5 --addr bc1 --conf_target 6", "leyden sendcoins --conf-target=6 -- bc1 5"),
        ("leyden lookupinvoice --rhash ab", "leyden lookupinvoice -- ab"),
        ("leyden fwdinghistory --start_time=-1w", "leyden fwdinghistory --start-time=-1w"),
        ("leyden fwdinghistory -1d 1790000000", "leyden fwdinghistory --start-time=-1d --end-time=1790000000"),
        (
            "leyden updatechanpolicy --base_fee_msat 1000 --fee_rate 0.00025 --time_lock_delta 80",
            "leyden updatechanpolicy -- 1000 250 80",
        ),
        ("leyden updatechanpolicy 1000 0.000001 80 ab:0", "leyden updatechanpolicy --chan-point=ab:0 -- 1000 1 80"),
        ("leyden updatechanpolicy 1000 250 80", "leyden updatechanpolicy -- 1000 250 80"),
        ("leyden listunspent 1 5", "leyden listunspent --min-confs=1 --max-confs=5"),
        (
            "leyden --lnddir /d -n regtest --rpcserver=h:1 walletbalance",
            "leyden --data-dir /d --network regtest --rpcserver h:1 walletbalance",
        ),
        ("leyden wallet bumpfee ab:0 --sat_per_vbyte 5 --immediate", "leyden bumpfee --sat-per-vbyte=5 -- ab:0"),
        ("leyden unlock --stdin", "leyden unlock --password-file=-"),
        ("leyden wallet accounts list --name default", "leyden lncli -- wallet accounts list --name default"),
        ("leyden signmessage hello --json", "leyden --json lncli -- signmessage hello"),
        ("leyden chain generate 5", "leyden chain generate 5"),
        ("leyden chain getblockhash 0", "leyden lncli -- chain getblockhash 0"),
        ("leyden help openchannel", "leyden openchannel --help"),
        ("leyden help chain", "leyden help chain"),
        ("leyden fly --to_the moon", "leyden fly --to-the moon"),
    ] {
        assert_eq!(told(typed).as_deref(), Ok(becomes), "{typed}");
    }
}

#[test]
fn a_channel_is_named_in_any_of_lnclis_ways() {
    let txid = "ab".repeat(32);
    let point = format!("{txid}:1");
    for arguments in [
        format!("{txid} 1"),
        format!("--funding_txid {txid} --output_index 1"),
        format!("--funding_txid={txid} 1"),
        format!("{txid} --output_index=1"),
        format!("--chan_point {point}"),
        point.clone(),
    ] {
        let told = told(&format!("leyden closechannel {arguments} --sat_per_vbyte 3")).unwrap();
        assert_eq!(told, format!("leyden closechannel --sat-per-vbyte=3 -- {point}"), "{arguments}");
    }
    assert_eq!(told(&format!("leyden closechannel {txid}")).unwrap(), format!("leyden closechannel -- {txid}:0"));
    assert_eq!(told("leyden closechannel abab").unwrap(), "leyden closechannel -- abab", "a beginning of it will do");
}

#[test]
fn lines_of_scripts_parse() {
    let txid = "ab".repeat(32);
    for line in [
        "leyden --json sendpayment --pay_req=lnbc1 --force --timeout=60s --fee_limit 10 --max_parts 4 --inflight_updates",
        "leyden payinvoice --pay_req lnbc1 --amt 5 --fee_limit_percent 2 --outgoing_chan_id 1,2x3x4 --last_hop 02ab -f",
        "leyden payinvoice lnbc1 --time_pref -0.5 --allow_self_payment --data 65537=c0ffee,65539=00",
        "leyden sendpayment 02ab 5 ab 40 cd",
        "leyden connect 02ab@h:1 --perm --timeout=30s",
        "leyden disconnect --node_key 02ab",
        "leyden openchannel --node_key 02ab --connect h:9735 --local_amt 5 --private --scid_alias --min_confs 0 --block",
        "leyden listpayments --include_incomplete --paginate_forwards --max_payments 7 --creation_date_start=-1w --omit_hops",
        "leyden listinvoices --pending_only --creation_date_start 5 --paginate-forwards",
        "leyden addholdinvoice ab --amt_msat 5 --cltv_expiry_delta 40 --description_hash ab",
        "leyden settleinvoice --preimage ab",
        "leyden listchannels --active_only --private_only --skip_peer_alias_lookup",
        "leyden closedchannels --funding_canceled",
        "leyden closeallchannels --force --skip_confirmation --sat_per_vbyte 2",
        "leyden pendingchannels --include_raw_tx",
        "leyden exportchanbackup --all --output_file f",
        "leyden bakemacaroon info:read --save_to f --timeout 5",
        "leyden trackpayment ab --json",
        "leyden getinfo -h",
    ] {
        if line.ends_with("-h") {
            assert_eq!(told(line).unwrap(), "leyden getinfo --help");
        } else {
            parsed(line);
        }
    }
    parsed(&format!("leyden abandonchannel {txid} 0 --i_know_what_i_am_doing"));
    parsed(&format!("leyden sendcoins --addr bc1 --amt 5 --utxo {txid}:0 --utxo {txid}:1"));
}

#[test]
fn what_makes_no_sense_is_said_so() {
    for (line, words) in [
        ("leyden openchannel --node_key 02ab --push_amt 5", "--push-amt goes with --local-amt"),
        ("leyden openchannel --node_key", "--node-key wants a value"),
        ("leyden addinvoice 5 --private=maybe", "on or off"),
        ("leyden addinvoice 5 --amp", "AMP"),
        ("leyden updatechanpolicy 1 --fee_rate 1e99 --time_lock_delta 80", "no part of one"),
    ] {
        let error = told(line).unwrap_err();
        assert!(error.contains(words), "{line}: {error}");
    }
}

fn request(line: &str) -> Result<serde_json::Value, String> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let (count, Does::Call(entry)) = beginning(&words).unwrap() else { panic!("{line} is no call") };
    let given =
        Given::read(words[count..].to_vec(), |name| entry.takes_value(name)).map_err(|error| error.to_string())?;
    let (entry, _, request) = call::request(entry, given).map_err(|error| error.to_string())?;
    let mut value = super::super::json::value_of(&request).unwrap();
    value["call"] = entry.call.into();
    Ok(value)
}

#[test]
fn arguments_become_the_fields_that_lncli_sends() {
    let txid = "cd".repeat(31) + "01";
    let made = request("signmessage hé").unwrap();
    assert_eq!(made["msg"], hex::encode("hé"));
    let made = request("queryroutes --dest 02ab --amt 500 --fee_limit_percent 3 --outgoing_chan_id 1x2x3").unwrap();
    assert_eq!(
        (&made["pub_key"], &made["amt"], &made["fee_limit"]["percent"]),
        (&"02ab".into(), &"500".into(), &"3".into())
    );
    let id = ((1_u64 << 40) | (2 << 16) | 3).to_string();
    assert_eq!(made["outgoing_chan_ids"][0], id.as_str());
    let made = request(&format!("wallet labeltx {txid} tea --overwrite")).unwrap();
    assert_eq!(made["txid"], "01".to_owned() + &"cd".repeat(31), "bytes in the order of messages");
    let made = request(&format!("updatechanstatus {txid} 1 disable")).unwrap();
    assert_eq!((&made["action"], &made["chan_point"]["output_index"]), (&"DISABLE".into(), &1.into()));
    let made = request("buildroute --amt 5 --hops 02ab,03cd").unwrap();
    assert_eq!((&made["amt_msat"], &made["hop_pubkeys"][1]), (&"5000".into(), &"03cd".into()));
    let made = request(
        r#"sendtoroute --payment_hash ab --routes {"route":{"hops":[{"tlv_payload":true,"metadata":"c0ff"}]}}"#,
    );
    assert_eq!(made.unwrap()["route"]["hops"][0]["metadata"], "c0ff");
    for (line, call, field) in [
        ("deletepayments --payment_hash ab", "lnrpc.Lightning/DeletePayment", "payment_hash"),
        ("deletepayments --all", "lnrpc.Lightning/DeleteAllPayments", "failed_payments_only"),
        ("deletepayments --all --include_non_failed", "lnrpc.Lightning/DeleteAllPayments", "all_payments"),
    ] {
        let made = request(line).unwrap();
        assert!(made["call"] == call && made[field] != false && made[field] != "", "{line}: {made}");
    }
    for (line, words) in [
        ("signmessage hello world", "takes no \"world\""),
        ("signmessage --loud hello", "has no --loud"),
        ("wallet labeltx zz tea", "hash of 64 hex digits"),
        ("getnodemetrics", "not served: it measures"),
    ] {
        let error = request(line).unwrap_err();
        assert!(error.contains(words), "{line}: {error}");
    }
}

#[test]
fn help_does_not_list_lnclis_second_names() {
    let help = Cli::command().render_long_help().to_string();
    let listed = |name: &str| help.lines().any(|line| line.trim_start().split(' ').next() == Some(name));
    assert!(listed("openchannel") && !listed("sendpayment") && !listed("lncli") && !listed("closeallchannels"));
}

#[test]
fn a_psbt_is_funded_with_outputs_inputs_and_change_as_lncli_writes_them() {
    use leyden_proto::walletrpc::{
        ChangeAddressType, FundPsbtRequest, fund_psbt_request::Template, psbt_coin_select::ChangeOutput,
    };
    let made = |lncli: &str, flags: &[(&str, &str)]| {
        let entry = calls::CALLS.iter().find(|entry| entry.lncli == lncli).unwrap();
        let mut given = Given::default();
        for (name, value) in flags {
            given.flags.push(((*name).to_owned(), Some((*value).to_owned())));
        }
        let (_, _, request) = call::request(entry, given).unwrap_or_else(|error| panic!("{lncli}: {error}"));
        let bytes = prost::Message::encode_to_vec(&request);
        <FundPsbtRequest as prost::Message>::decode(bytes.as_slice()).unwrap()
    };
    let input = format!("[\"{}:1\"]", "ab".repeat(32));
    let flags = [("outputs", r#"{"bcrt1q": 5000}"#), ("inputs", input.as_str()), ("change-type", "p2tr")];
    let request = made("wallet psbt fund", &flags);
    assert_eq!(request.change_type, ChangeAddressType::P2tr as i32);
    let Some(Template::Raw(raw)) = request.template else { panic!("no outputs") };
    assert_eq!((raw.outputs["bcrt1q"], raw.inputs[0].output_index), (5_000, 1));
    let change = |index: Option<&'static str>| {
        let mut flags = vec![("template-psbt", "cHNidP8=")];
        flags.extend(index.map(|index| ("change-output-index", index)));
        let request = made("wallet psbt fundtemplate", &flags);
        let Some(Template::CoinSelect(select)) = request.template else { panic!("no template") };
        select.change_output.unwrap()
    };
    assert_eq!(change(None), ChangeOutput::Add(true));
    assert_eq!(change(Some("-1")), ChangeOutput::Add(true));
    assert_eq!(change(Some("2")), ChangeOutput::ExistingOutputIndex(2));
}

#[test]
fn what_cannot_be_undone_is_done_when_it_is_said_twice_or_forced() {
    let asks: Vec<&str> = calls::CALLS.iter().filter(|entry| entry.asks.is_some()).map(|entry| entry.lncli).collect();
    assert_eq!(asks, ["deletefwdhistory"]);
    let answer = |typed: &str| {
        let mut shown = Vec::new();
        let agreed = call::agrees("it is gone then", &mut typed.as_bytes(), &mut shown);
        (agreed.map_err(|error| error.to_string()), String::from_utf8(shown).unwrap())
    };
    assert_eq!(answer("yes\n"), (Ok(true), "it is gone then. Proceed? (yes/no): ".to_owned()));
    assert_eq!(answer(" No \nyes\n").0, Ok(false));
    let (agreed, shown) = answer("y\nYES\n");
    assert_eq!((agreed, shown.matches("Proceed?").count()), (Ok(true), 2), "it asks again");
    assert!(answer("").0.unwrap_err().contains("--force"), "a script without a terminal");
}
