//! The crossing story: Alice has coins on north alone and Bob takes them on south alone. Carol has a node on both, with a channel
//! from Alice on north and one to Bob on south, and lets payments cross at her rate.
//!
//! - Bob's invoice on south is paid by Alice on north, and no block is found on either network meanwhile.
//! - A payment that cannot be made on south comes back on north.
//! - All of Carol's is killed while a payment hangs on south; Bob takes it, and Carol is paid all the same.
//!
//! Carol has a daemon for each network, or one that holds both.

use std::path::Path;

use leyden_proto::{
    leyden::{
        CrossRequest, CrossingInfo, CrossingRate, ListCrossingsRequest, LookAtCrossingRequest, SetCrossingRateRequest,
    },
    lnrpc::{BakeMacaroonRequest, MacaroonPermission, Payment},
};

use super::{
    DataFolder, DemoError, DemoOptions, Narrator,
    calls::{NOBODY, succeeded},
    guarded::HeldPayment,
    narrator::coins,
};
use crate::{
    client::{Access, Client},
    cluster::{ClusterError, DaemonProcess, wait_for},
};

/// Carol on south.
const CAROL_SOUTH: &str = "carol-south";
/// Satoshi in each channel.
const CAPACITY: i64 = 100_000_000;
/// Blocks after which a reward can be spent.
const MATURE: u32 = 100;
/// Blocks that make a funding transaction final for both.
const DEEP: u32 = 6;
/// Satoshi that Bob asks for on south.
const AMOUNT: i64 = 1_000_000;
/// Carol takes a tenth of that on north, half a percent more, and a satoshi.
const PRICE: i64 = AMOUNT / 10 + AMOUNT / 10 / 200 + 1;

/// What Carol runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carol {
    /// A daemon for each network.
    Two,
    /// One daemon for both.
    One,
}

/// The nodes of three people.
struct Cast {
    alice: DaemonProcess,
    carol: Carol,
    carol_north: DaemonProcess,
    /// If Carol runs one daemon, its second network.
    carol_south: DaemonProcess,
    bob: DaemonProcess,
}

/// What Alice has on north, what Carol has there and on south, and what Bob has, in their channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fortunes {
    alice: i64,
    carol_north: i64,
    carol_south: i64,
    bob: i64,
}

/// Plays the story with a daemon of Carol's on each network. Fails if a figure is not as it must be.
pub async fn play(options: DemoOptions) -> Result<(), DemoError> {
    play_with(options, Carol::Two).await
}

/// Plays the story with one daemon of Carol's that holds both networks. Fails if a figure is not as it must be.
pub async fn play_in_one(options: DemoOptions) -> Result<(), DemoError> {
    play_with(options, Carol::One).await
}

async fn play_with(options: DemoOptions, carol: Carol) -> Result<(), DemoError> {
    let folder = DataFolder::new(options.folder)?;
    let mut narrator = Narrator::default();
    let mut cast = Cast::start(&mut narrator, folder.path(), carol).await?;
    let result = tell(&mut narrator, &mut cast, folder.path()).await;
    if options.keep {
        let folder = folder.keep();
        println!("\nThe nodes keep running in {}. Talk to them, for example:", folder.display());
        println!("  leyden --data-dir {} swap crossings", cast.carol_north.data_dir().display());
        for node in cast.all() {
            node.keep_running();
        }
        println!("Stop them with `leyden --data-dir … stop`.");
    }
    result?;
    narrator.finish()
}

async fn tell(narrator: &mut Narrator, cast: &mut Cast, folder: &Path) -> Result<(), DemoError> {
    cast.open(narrator).await?;
    let asking = allow(narrator, cast, folder).await?;
    let before = cast.fortunes().await?;
    let heights = (cast.alice.height().await?, cast.bob.height().await?);
    paid(narrator, cast, &asking).await?;
    refunded(narrator, cast, &asking).await?;
    interrupted(narrator, cast, &asking).await?;

    narrator.step("The books");
    let after = cast.fortunes().await?;
    let crossings = cast.crossings().await?;
    let crossed = crossings.iter().filter(|crossing| crossing.state == "crossed").count();
    narrator.require("two payments have crossed, one has come back", crossed == 2 && crossings.len() == 3);
    narrator.check("Alice has paid, on north", -2 * PRICE, after.alice - before.alice);
    narrator.check("Carol was paid, on north", 2 * PRICE, after.carol_north - before.carol_north);
    narrator.check("Carol has paid, on south", -2 * AMOUNT, after.carol_south - before.carol_south);
    narrator.check("Bob was paid, on south", 2 * AMOUNT, after.bob - before.bob);
    let now = (cast.alice.height().await?, cast.bob.height().await?);
    narrator.require("no block was found on either network", heights == now);
    Ok(())
}

/// Carol sets her rate, and lets others ask. Gives what Bob asks with.
async fn allow(narrator: &mut Narrator, cast: &Cast, folder: &Path) -> Result<Client, DemoError> {
    narrator
        .step("Carol takes 1 on north for 10 paid on south, 0.5 % more, and 1 sat; Bob gets a macaroon to ask with");
    let carol = cast.carol_north.client()?;
    let error = |status| cast.carol_north.call_error(status);
    let invoice = cast.bob.invoice(AMOUNT, "tea").await?;
    let early = carol.crossing().cross(CrossRequest { payment_request: invoice, ..CrossRequest::default() }).await;
    narrator.require("before that nothing crosses", early.is_err());
    let rate = CrossingRate {
        incoming: "north".to_owned(),
        outgoing: "south".to_owned(),
        take: 1,
        give: 10,
        base_fee_msat: 1_000,
        fee_ppm: 5_000,
        most_msat: 2_000_000_000,
        most_held_msat: 2_000_000_000,
        route_fee_ppm: 5_000,
        held_msat: 0,
    };
    carol.crossing().set_rate(SetCrossingRateRequest { rate: Some(rate), off: false }).await.map_err(error)?;
    let uri = |call: &str| MacaroonPermission { entity: "uri".to_owned(), action: format!("/leyden.Crossing/{call}") };
    let request =
        BakeMacaroonRequest { permissions: vec![uri("Cross"), uri("Look")], ..BakeMacaroonRequest::default() };
    let baked = carol.lightning().bake_macaroon(request).await.map_err(error)?.into_inner().macaroon;
    let macaroon = folder.join("cross.macaroon");
    std::fs::write(&macaroon, hex::decode(baked).unwrap_or_default()).map_err(DemoError::Folder)?;
    let access = Access::from_data_dir(cast.carol_north.data_dir()).map_err(ClusterError::from)?;
    let asking = Client::connect(&Access { macaroon, ..access }).await.map_err(ClusterError::from)?;
    let list = asking.crossing().list(ListCrossingsRequest {}).await;
    narrator.require("with it nobody sees what others cross", list.is_err());
    Ok(asking)
}

async fn paid(narrator: &mut Narrator, cast: &Cast, asking: &Client) -> Result<(), DemoError> {
    narrator.step("Bob makes an invoice on south, and asks Carol for one on north; Alice pays that");
    let before = cast.fortunes().await?;
    let invoice = cast.bob.invoice(AMOUNT, "tea").await?;
    let crossing = cast.cross(asking, &invoice).await?;
    narrator.check("Carol's price on north", PRICE, sat(crossing.price_msat));
    narrator.say(&format!("the payment may be locked for {} blocks of north at most", crossing.hold_blocks));
    let again = cast.cross(asking, &invoice).await?;
    narrator.require("asking twice is asking once", again.payment_request == crossing.payment_request);

    let payment = cast.alice.pay(crossing.payment_request).await?;
    narrator.require("Alice's payment on north succeeds", succeeded(&payment));
    let ended = cast.ended(asking, &crossing.payment_hash).await?;
    narrator.require("it has crossed", ended.state == "crossed");
    let proof = hex::encode(&ended.preimage);
    narrator.require("Alice's proof is Bob's preimage", payment.payment_preimage == proof);
    narrator.say(&format!("preimage {proof}"));
    cast.moved(narrator, before, PRICE, AMOUNT).await
}

async fn refunded(narrator: &mut Narrator, cast: &mut Cast, asking: &Client) -> Result<(), DemoError> {
    narrator.step("Bob makes another invoice, and his daemon is killed before Alice pays: her payment comes back");
    let before = cast.fortunes().await?;
    let crossing = cast.cross(asking, &cast.bob.invoice(AMOUNT, "cake").await?).await?;
    cast.bob.kill();
    wait_for("Carol to see that Bob has gone", || async {
        let channels = cast.carol_south.channels().await?;
        Ok(channels.iter().all(|channel| !channel.active).then_some(()))
    })
    .await?;
    let payment = cast.alice.pay(crossing.payment_request).await?;
    narrator.require("Alice's payment on north fails", !succeeded(&payment));
    let ended = cast.ended(asking, &crossing.payment_hash).await?;
    narrator.require("it was given back", ended.state == "given_back");
    narrator.say(&ended.reason);
    cast.bob.start().await?;
    cast.carol_south.wait_for_active_channels(1).await?;
    cast.bob.wait_for_active_channels(1).await?;
    cast.moved(narrator, before, 0, 0).await
}

async fn interrupted(narrator: &mut Narrator, cast: &mut Cast, asking: &Client) -> Result<(), DemoError> {
    let killed = match cast.carol {
        Carol::Two => "both of Carol's daemons are killed (SIGKILL)",
        Carol::One => "Carol's daemon is killed (SIGKILL)",
    };
    narrator.step(&format!("Bob holds the third payment; while it hangs on south, {killed}"));
    let before = cast.fortunes().await?;
    let held = HeldPayment::new(33, AMOUNT);
    let crossing = cast.cross(asking, &cast.bob.hold_invoice(&held).await?).await?;
    let alice = cast.alice.client()?.clone();
    let request = crossing.payment_request.clone();
    let paying = tokio::spawn(async move { pay(&alice, request).await });
    cast.reaches("paying").await?;
    wait_for("the payment to hang on south", || async {
        let pending: usize = cast.bob.channels().await?.iter().map(|channel| channel.pending_htlcs.len()).sum();
        Ok((pending == 1).then_some(()))
    })
    .await?;
    cast.carol_north.kill();
    match cast.carol {
        Carol::Two => {
            cast.carol_south.kill();
            cast.carol_south.start().await?;
            cast.carol_north.start().await?;
        }
        Carol::One => {
            cast.carol_north.start().await?;
            cast.carol_south = cast.carol_north.on_second(CAROL_SOUTH)?;
        }
    }
    let crossings = cast.crossings().await?;
    let hangs = crossings.iter().any(|crossing| crossing.state == "paying");
    narrator.require("started again, Carol knows that it hangs, and gives nothing back", hangs);

    narrator.step("Bob takes it: Carol learns the preimage on south, and takes Alice's payment on north");
    cast.carol_south.wait_for_active_channels(1).await?;
    cast.bob.settle(&[held]).await?;
    cast.reaches("crossed").await?;
    let payment = paying.await.map_err(|error| DemoError::Story(error.to_string()))?;
    let payment = payment.map_err(|status| cast.alice.call_error(status))?;
    narrator.require("Alice's payment on north succeeds", payment.as_ref().is_some_and(succeeded));
    cast.moved(narrator, before, PRICE, AMOUNT).await
}

/// Pays, and waits for the end of it.
async fn pay(client: &Client, payment_request: String) -> Result<Option<Payment>, tonic::Status> {
    let request = leyden_proto::routerrpc::SendPaymentRequest {
        payment_request,
        timeout_seconds: 60,
        fee_limit_sat: 1_000,
        no_inflight_updates: true,
        ..Default::default()
    };
    let mut updates = client.router().send_payment_v2(request).await?.into_inner();
    let mut last = None;
    while let Some(update) = updates.message().await? {
        last = Some(update);
    }
    Ok(last)
}

fn sat(msat: u64) -> i64 {
    i64::try_from(msat / 1_000).unwrap_or(i64::MAX)
}

impl Cast {
    async fn start(narrator: &mut Narrator, folder: &Path, carol: Carol) -> Result<Self, DemoError> {
        narrator.step(match carol {
            Carol::Two => "Two networks; Alice has a daemon on north, Bob on south, and Carol on both",
            Carol::One => "Two networks; Alice has a daemon on north, Bob on south, and Carol one that holds both",
        });
        std::fs::create_dir_all(folder).map_err(DemoError::Folder)?;
        let file = |name: &str| folder.join(format!("{name}.toml")).display().to_string();
        let (north_file, south_file) = (file("north"), file("south"));
        for (name, magic) in [("north", "6e6f7274"), ("south", "736f7574")] {
            let text = format!(
                "name = \"{name}\"\nmagic = \"{magic}\"\nspacing = 600\n\n[genesis]\nmessage = \"the {name} chain\"\ntime = 1700000000\n"
            );
            std::fs::write(folder.join(format!("{name}.toml")), text).map_err(DemoError::Folder)?;
        }
        let (carol_north, carol_south) = match carol {
            Carol::Two => {
                let south_dir = folder.join(CAROL_SOUTH).display().to_string();
                let mut south = DaemonProcess::new(folder, CAROL_SOUTH, &["--network", &south_file])?;
                south.start().await?;
                let flags = ["--network", &north_file, "--swap-with", &south_dir];
                let mut north = DaemonProcess::new(folder, "carol-north", &flags)?;
                north.start().await?;
                (north, south)
            }
            Carol::One => {
                let flags = ["--network", &north_file, "--also", &south_file];
                let mut north = DaemonProcess::new(folder, "carol", &flags)?;
                north.start().await?;
                let south = north.on_second(CAROL_SOUTH)?;
                (north, south)
            }
        };
        let north = ["--network", &north_file, "--chain-connect", &carol_north.chain_address()?];
        let mut alice = DaemonProcess::new(folder, "alice", &north)?;
        alice.start().await?;
        let south = ["--network", &south_file, "--chain-connect", &carol_south.chain_address()?];
        let mut bob = DaemonProcess::new(folder, "bob", &south)?;
        bob.start().await?;
        let cast = Self { alice, carol, carol_north, carol_south, bob };
        for (miner, other) in [(&cast.alice, &cast.carol_north), (&cast.carol_south, &cast.bob)] {
            miner.mine(1, None).await?;
            miner.mine(MATURE, Some(NOBODY)).await?;
            other.wait_for_height(miner.height().await?).await?;
        }
        Ok(cast)
    }

    fn all(&mut self) -> [&mut DaemonProcess; 4] {
        [&mut self.alice, &mut self.carol_north, &mut self.carol_south, &mut self.bob]
    }

    async fn open(&self, narrator: &mut Narrator) -> Result<(), DemoError> {
        narrator.step("Alice opens a channel of 1.0 to Carol on north, and Carol one of 1.0 to Bob on south");
        for (opener, other) in [(&self.alice, &self.carol_north), (&self.carol_south, &self.bob)] {
            opener.connect(other).await?;
            opener.open_channel(other, CAPACITY, 0).await?;
            opener.mine(DEEP, Some(NOBODY)).await?;
            other.wait_for_height(opener.height().await?).await?;
            opener.wait_for_active_channels(1).await?;
            other.wait_for_active_channels(1).await?;
        }
        Ok(())
    }

    async fn fortunes(&self) -> Result<Fortunes, ClusterError> {
        let of = async |node: &DaemonProcess| Ok::<_, ClusterError>(node.only_channel().await?.local_balance);
        Ok(Fortunes {
            alice: of(&self.alice).await?,
            carol_north: of(&self.carol_north).await?,
            carol_south: of(&self.carol_south).await?,
            bob: of(&self.bob).await?,
        })
    }

    /// Waits until so much has moved on both networks, and checks it.
    async fn moved(&self, narrator: &mut Narrator, before: Fortunes, north: i64, south: i64) -> Result<(), DemoError> {
        let expected = Fortunes {
            alice: before.alice - north,
            carol_north: before.carol_north + north,
            carol_south: before.carol_south - south,
            bob: before.bob + south,
        };
        let is_there = || async { Ok((self.fortunes().await? == expected).then_some(())) };
        match wait_for("the balances of both channels", is_there).await {
            Ok(()) | Err(ClusterError::Waited { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let now = self.fortunes().await?;
        narrator.check("Alice on north", expected.alice, now.alice);
        narrator.check("Carol on north", expected.carol_north, now.carol_north);
        narrator.check("Carol on south", expected.carol_south, now.carol_south);
        narrator.check("Bob on south", expected.bob, now.bob);
        narrator.say(&format!("on north {} moved, on south {}", coins(north), coins(south)));
        Ok(())
    }

    /// As whoever asks for it.
    async fn cross(&self, asking: &Client, invoice: &str) -> Result<CrossingInfo, ClusterError> {
        let request = CrossRequest { payment_request: invoice.to_owned(), ..CrossRequest::default() };
        let crossing = asking.crossing().cross(request).await;
        crossing.map(tonic::Response::into_inner).map_err(|status| self.carol_north.call_error(status))
    }

    /// A crossing once it is over.
    async fn ended(&self, asking: &Client, hash: &[u8]) -> Result<CrossingInfo, ClusterError> {
        wait_for("a crossing to end", || async {
            let request = LookAtCrossingRequest { payment_hash: hash.to_vec() };
            let crossing = asking.crossing().look(request).await;
            let crossing = crossing.map_err(|status| self.carol_north.call_error(status))?.into_inner();
            let is_over =
                matches!(crossing.state.as_str(), "crossed" | "given_back" | "taken_elsewhere" | "lost" | "unknown");
            Ok(is_over.then_some(crossing))
        })
        .await
    }

    /// All that Carol knows of.
    async fn crossings(&self) -> Result<Vec<CrossingInfo>, ClusterError> {
        let list = self.carol_north.client()?.crossing().list(ListCrossingsRequest {}).await;
        Ok(list.map_err(|status| self.carol_north.call_error(status))?.into_inner().crossings)
    }

    /// Waits until the latest crossing is there.
    async fn reaches(&self, state: &str) -> Result<(), ClusterError> {
        wait_for(&format!("the latest crossing to be {state}"), || async {
            let latest = self.crossings().await?.into_iter().next_back();
            Ok(latest.is_some_and(|crossing| crossing.state == state).then_some(()))
        })
        .await
    }
}
