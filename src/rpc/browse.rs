//! `leyden.Browse`: long lists a part at a time, with search.
//!
//! ```text
//!   newest ── CHUNK ── CHUNK ── … ──► until the page is full, MOST_LOOKED_AT are looked at, or there are no more
//!                                     └─ `before`: where the next call goes on
//! ```
//!
//! Whatever is asked for, a call reads a bounded part and answers with one page.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use leyden_channels::types::NodeId;
use leyden_node::Clock;
use leyden_proto::leyden::{self, browse_server::Browse};
use tonic::{Request, Response, Status};

use super::{Context, assemble, convert::browse};
use crate::api::{ApiError, ChannelInfo, Lightning, Page, PageRequest};

/// Records that are read from the disk at once.
const CHUNK: u64 = 200;
/// Records that one call looks at: reading them takes an unoptimised daemon a seventh of a second. The next call goes on.
const MOST_LOOKED_AT: u64 = 1_000;

pub(super) struct BrowseService {
    context: Context,
}

impl BrowseService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

/// A page of a numbered list, the newest first.
struct Found<T> {
    items: Vec<T>,
    /// Where the next page begins; 0: there is none.
    before: u64,
    looked_at: u64,
}

/// Goes back from `before` (0: from the newest) until `limit` records are found for which `take` has something.
async fn look_back<R, T, F>(
    wanted: &browse::Wanted,
    fetch: impl Fn(PageRequest) -> F,
    index: impl Fn(&R) -> u64,
    take: impl Fn(&R) -> Option<T>,
) -> Result<Found<T>, ApiError>
where
    F: Future<Output = Result<Page<R>, ApiError>>,
{
    let mut found = Found { items: Vec::new(), before: wanted.before, looked_at: 0 };
    let chunk = if wanted.takes_all() { wanted.limit } else { CHUNK };
    loop {
        let request =
            PageRequest { offset: found.before, limit: Some(chunk), reversed: true, ..PageRequest::default() };
        let page = fetch(request).await?;
        let is_last = (page.items.len() as u64) < chunk;
        for record in page.items.iter().rev() {
            found.before = index(record);
            found.looked_at += 1;
            found.items.extend(take(record));
            if found.items.len() as u64 >= wanted.limit {
                break;
            }
        }
        let is_full = found.items.len() as u64 >= wanted.limit;
        if (is_last && !is_full) || found.before <= 1 {
            found.before = 0;
        }
        if is_full || found.before == 0 || found.looked_at >= MOST_LOOKED_AT {
            return Ok(found);
        }
    }
}

/// What the peers of these channels call themselves.
async fn aliases(
    lightning: &Arc<dyn Lightning>,
    channels: impl Iterator<Item = &ChannelInfo>,
) -> Result<BTreeMap<NodeId, String>, ApiError> {
    let nodes: BTreeSet<NodeId> = channels.map(|channel| channel.summary.node_id.into()).collect();
    let nodes: Vec<NodeId> = nodes.into_iter().collect();
    let names = lightning.aliases(&nodes).await?;
    Ok(nodes.into_iter().zip(names).collect())
}

#[tonic::async_trait]
impl Browse for BrowseService {
    async fn list_channels(
        &self,
        request: Request<leyden::BrowseChannelsRequest>,
    ) -> Result<Response<leyden::BrowseChannelsResponse>, Status> {
        let lightning = self.context.lightning()?;
        let wanted = browse::WantedChannels::new(&request.into_inner())?;
        let all = lightning.channels().await?;
        let coverage: BTreeMap<_, _> =
            lightning.coverage(None).await?.into_iter().map(|one| (one.funding, one)).collect();
        // Names are looked up for what is shown alone, unless they are searched.
        let mut names = if wanted.searches() { aliases(&lightning, all.iter()).await? } else { BTreeMap::new() };
        let name_of = |names: &BTreeMap<NodeId, String>, channel: &ChannelInfo| {
            names.get(&channel.summary.node_id.into()).cloned().unwrap_or_default()
        };
        let matching: Vec<&ChannelInfo> = all
            .iter()
            .filter(|channel| wanted.takes(channel, coverage.get(&channel.summary.funding), &name_of(&names, channel)))
            .collect();
        let shown: Vec<&ChannelInfo> = matching.iter().copied().skip(wanted.offset).take(wanted.limit).collect();
        if !wanted.searches() {
            names = aliases(&lightning, shown.iter().copied()).await?;
        }
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let uncovered = all.iter().filter(|channel| browse::is_uncovered(coverage.get(&channel.summary.funding)));
        Ok(Response::new(leyden::BrowseChannelsResponse {
            channels: shown
                .iter()
                .map(|channel| {
                    browse::channel(channel, coverage.get(&channel.summary.funding), name_of(&names, channel))
                })
                .collect(),
            matching: count(matching.len()),
            total: count(all.len()),
            usable: count(all.iter().filter(|channel| channel.active).count()),
            uncovered: count(uncovered.count()),
        }))
    }

    async fn list_payments(
        &self,
        request: Request<leyden::BrowseRequest>,
    ) -> Result<Response<leyden::BrowsePaymentsResponse>, Status> {
        let lightning = self.context.lightning()?;
        let wanted = browse::Wanted::new(request.into_inner())?;
        let fetch = |page| lightning.payments(page, true);
        let take = |payment: &_| Some(browse::payment(payment)).filter(|shown| wanted.takes_payment(shown));
        let found = look_back(&wanted, fetch, |payment| payment.index, take).await?;
        let Found { items: payments, before, looked_at } = found;
        Ok(Response::new(leyden::BrowsePaymentsResponse { payments, before, looked_at }))
    }

    async fn list_invoices(
        &self,
        request: Request<leyden::BrowseRequest>,
    ) -> Result<Response<leyden::BrowseInvoicesResponse>, Status> {
        let lightning = self.context.lightning()?;
        let wanted = browse::Wanted::new(request.into_inner())?;
        let now = Clock::System.now();
        let fetch = |page| lightning.invoices(page);
        let take = |invoice: &_| Some(browse::invoice(invoice, now)).filter(|shown| wanted.takes_invoice(shown));
        let found = look_back(&wanted, fetch, |invoice| invoice.add_index, take).await?;
        let Found { items: invoices, before, looked_at } = found;
        Ok(Response::new(leyden::BrowseInvoicesResponse { invoices, before, looked_at }))
    }

    async fn list_coins(
        &self,
        request: Request<leyden::BrowseCoinsRequest>,
    ) -> Result<Response<leyden::BrowseCoinsResponse>, Status> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let limit = browse::limit(request.limit, browse::CHANNELS_AT_ONCE)?;
        let network = self.context.daemon.network();
        let mut coins = lightning.unspent().await?;
        let make = move || {
            coins.sort_by_key(|coin| std::cmp::Reverse((coin.output.value, coin.outpoint)));
            let shown = coins.iter().skip(request.offset as usize).take(limit);
            leyden::BrowseCoinsResponse {
                total: u32::try_from(coins.len()).unwrap_or(u32::MAX),
                coins: shown.map(|coin| browse::coin(coin, &network)).collect(),
            }
        };
        Ok(Response::new(assemble(make).await?))
    }

    async fn get_map(
        &self,
        request: Request<leyden::GetMapRequest>,
    ) -> Result<Response<leyden::GetMapResponse>, Status> {
        let lightning = self.context.lightning()?;
        let most = browse::limit(request.into_inner().nodes, browse::MAP_NODES)?;
        Ok(Response::new(browse::map(&lightning.network_map(most).await?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of the numbers up to `last`, as the node keeps its lists, with gaps where `is_there` says so.
    async fn list(page: PageRequest, last: u64, is_there: fn(&u64) -> bool) -> Result<Page<u64>, ApiError> {
        let end = if page.offset == 0 { last } else { page.offset - 1 };
        let mut items: Vec<u64> =
            (1..=end).rev().filter(is_there).take(usize::try_from(page.limit.unwrap()).unwrap()).collect();
        items.reverse();
        Ok(Page { items, total: last })
    }

    fn wanted(before: u64, limit: u32, search: &str) -> browse::Wanted {
        browse::Wanted::new(leyden::BrowseRequest { before, limit, search: search.to_owned(), which: 0 }).unwrap()
    }

    async fn look(wanted: &browse::Wanted, last: u64, take: impl Fn(&u64) -> bool) -> (Vec<u64>, u64, u64) {
        let fetch = |page| list(page, last, |number| !number.is_multiple_of(7));
        let found = look_back(wanted, fetch, |number| *number, |number| take(number).then_some(*number)).await.unwrap();
        (found.items, found.before, found.looked_at)
    }

    #[tokio::test]
    async fn every_record_is_seen_once_page_by_page() {
        for limit in [1, 3, 50] {
            let (mut seen, mut before) = (Vec::new(), 0);
            loop {
                let (items, next, _) = look(&wanted(before, limit, ""), 100, |_| true).await;
                assert!(items.len() <= limit as usize);
                seen.extend(items);
                before = next;
                if before == 0 {
                    break;
                }
            }
            let all: Vec<u64> = (1..=100u64).rev().filter(|number| !number.is_multiple_of(7)).collect();
            assert_eq!(seen, all, "{limit} at a time");
        }
    }

    #[tokio::test]
    async fn a_search_that_finds_nothing_stops_and_goes_on_where_it_stopped() {
        let (mut before, mut calls, mut looked_at) = (0, 0, 0);
        loop {
            let (items, next, looked) = look(&wanted(before, 50, "x"), 10_000, |number| *number == 5).await;
            assert!(looked <= MOST_LOOKED_AT + CHUNK);
            (before, calls, looked_at) = (next, calls + 1, looked_at + looked);
            if before == 0 {
                assert_eq!(items, [5]);
                break;
            }
            assert!(items.is_empty());
        }
        assert!((8..=12).contains(&calls), "{calls} calls");
        assert_eq!(looked_at, 10_000 - 10_000 / 7, "each is looked at once");
    }

    #[tokio::test]
    async fn an_empty_list_is_a_last_page() {
        assert_eq!(look(&wanted(0, 50, ""), 0, |_| true).await, (vec![], 0, 0));
    }
}
