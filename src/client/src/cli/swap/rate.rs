//! `leyden swap rate`: at what price payments cross to another network.

use std::str::FromStr;

use clap::Args;
use leyden_proto::leyden::{CrossingRate, CrossingRates, ListCrossingRatesRequest, SetCrossingRateRequest};

use super::super::{
    CliError, Context,
    amount::{self, Sat},
    table,
};

/// Let payments cross from one network to the other, at your price; or show the rates that are set.
///
/// Your node is paid on the first network, and pays the payee's invoice on the second: with channels on both, and --also (one
/// daemon) or --swap-with (two).
/// Both payments hang on one preimage, so you are paid when the payee is. Whoever may ask (`leyden swap cross`) has a
/// macaroon for it: you, or somebody to whom you give one that allows nothing else.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden swap rate                           the rates that are set\n  \
    leyden swap rate north/south 1/10          take 1 on north for each 10 paid on south\n  \
    leyden swap rate north/south 1/10 --fee-ppm 5000 --most 0.1btc --most-held 0.5btc\n  \
    leyden swap rate north/south off           quotes that nobody has paid are given up\n\n\
    To let others ask, and do nothing else:\n  \
    leyden bakemacaroon uri:/leyden.Crossing/Cross uri:/leyden.Crossing/Look --save-to cross.macaroon")]
pub(super) struct Rate {
    /// The payer's network and the payee's, by their names, such as north/south
    #[arg(requires = "rate")]
    networks: Option<Pair>,
    /// Units taken on the first for units paid on the second, such as 1/10; or `off`
    rate: Option<Price>,
    /// Added to each price, in satoshi of the payer's network
    #[arg(long, value_name = "SAT", default_value = "1")]
    base_fee: Sat,
    /// Added to each price, in millionths of it
    #[arg(long, value_name = "MILLIONTHS", default_value_t = 5_000)]
    fee_ppm: u32,
    /// The largest payment, on the payee's network
    #[arg(long, value_name = "SAT", default_value = "1000000")]
    most: Sat,
    /// The most that may be under way at once, on the payee's network, submarine swaps between the two included [default: five times
    /// the largest payment]
    #[arg(long, value_name = "SAT")]
    most_held: Option<Sat>,
    /// What routes to the payee may cost you, in millionths of the payment
    #[arg(long, value_name = "MILLIONTHS", default_value_t = 5_000)]
    route_fee_ppm: u32,
}

/// Two names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    incoming: String,
    outgoing: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((incoming, outgoing)) if !incoming.is_empty() && !outgoing.is_empty() => {
                Ok(Self { incoming: incoming.to_owned(), outgoing: outgoing.to_owned() })
            }
            _ => Err(format!("\"{text}\" are no two networks: write PAYER'S/PAYEE'S, such as north/south")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Price {
    Off,
    Units { take: u64, give: u64 },
}

impl FromStr for Price {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let wrong = || {
            format!(
                "\"{text}\" is no rate: write what you take on the first network / what you pay on the second, such as 1/10, or off"
            )
        };
        let (take, give) = text.split_once('/').ok_or_else(wrong)?;
        // As many digits behind the point in both, so that 0.1/1 is 1/10.
        let (take, give) = (decimal(take).ok_or_else(wrong)?, decimal(give).ok_or_else(wrong)?);
        Ok(Self::Units { take, give })
    }
}

/// Digits that a number may have behind its point.
const PLACES: u32 = 6;

/// A decimal number, in millionths.
fn decimal(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(part) || part.len() > PLACES as usize {
        return None;
    }
    let unit = 10_u64.pow(PLACES);
    let part: u64 = format!("{part:0<width$}", width = PLACES as usize).parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(part)
}

impl Rate {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let rates = match (self.networks, self.rate) {
            (Some(Pair { incoming, outgoing }), Some(price)) => {
                let msat = |amount: Sat| u64::try_from(amount.0).unwrap_or_default().saturating_mul(1_000);
                let (take, give) = match price {
                    Price::Off => (0, 0),
                    Price::Units { take, give } => smallest(take, give),
                };
                let rate = CrossingRate {
                    incoming,
                    outgoing,
                    take,
                    give,
                    base_fee_msat: msat(self.base_fee),
                    fee_ppm: self.fee_ppm,
                    most_msat: msat(self.most),
                    most_held_msat: self.most_held.map_or(msat(self.most).saturating_mul(5), msat),
                    route_fee_ppm: self.route_fee_ppm,
                    held_msat: 0,
                };
                let request = SetCrossingRateRequest { rate: Some(rate), off: price == Price::Off };
                client.crossing().set_rate(request).await?.into_inner()
            }
            _ => client.crossing().list_rates(ListCrossingRatesRequest {}).await?.into_inner(),
        };
        context.show(&rates, || for_people(&rates))
    }
}

/// The same rate in the smallest numbers.
fn smallest(take: u64, give: u64) -> (u64, u64) {
    let (mut a, mut b) = (take, give);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let divisor = a.max(1);
    (take / divisor, give / divisor)
}

fn for_people(rates: &CrossingRates) -> String {
    let msat = |amount: u64| amount::msat(i64::try_from(amount).unwrap_or(i64::MAX));
    let rows = rates.rates.iter().map(|rate| {
        [
            format!("{}/{}", rate.incoming, rate.outgoing),
            format!("{}/{}", rate.take, rate.give),
            format!("{} + {} ppm", msat(rate.base_fee_msat), rate.fee_ppm),
            msat(rate.most_msat),
            msat(rate.most_held_msat),
            msat(rate.held_msat),
        ]
    });
    table::list(
        ["networks", ">take/pay", ">fee", ">~largest", ">~most under way", ">under way"],
        rows.collect(),
        "No rate is set: nothing crosses. `leyden swap rate --help` says how.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_taken_as_people_write_them() {
        let read = |text: &str| match text.parse() {
            Ok(Price::Units { take, give }) => Some(smallest(take, give)),
            Ok(Price::Off) | Err(_) => None,
        };
        assert_eq!(read("1/10"), Some((1, 10)));
        assert_eq!(read("0.1/1"), Some((1, 10)));
        assert_eq!(read("2.5/0.000001"), Some((2_500_000, 1)));
        assert_eq!("off".parse(), Ok(Price::Off));
        for wrong in ["", "1", "/", "1/", "a/b", "-1/1", "1/1.0000001", "99999999999999999999/1"] {
            assert!(wrong.parse::<Price>().is_err(), "{wrong}");
        }
        assert!("north".parse::<Pair>().is_err() && "/south".parse::<Pair>().is_err());
    }
}
