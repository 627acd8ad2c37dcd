//! What others may make the daemon hold and do: the lines of `leyden peers --limits`.

use super::page::{Family, Page, family};
use crate::limits::LimitUse;

const USED: Family = family("leyden_limit_used", "How much of a limit is in use; see `leyden peers --limits`.");
const MAXIMUM: Family = family("leyden_limit_maximum", "What a limit allows.");
const REFUSED: Family =
    family("leyden_limit_refused_total", "How often something was refused for a limit, or had to give way.");

pub(super) fn write(limits: &[LimitUse], page: &Page<'_>) {
    for LimitUse { name, used, limit, refused, what: _ } in limits {
        let label = ("limit", *name);
        page.gauge_of(USED, label, *used);
        page.gauge_of(MAXIMUM, label, *limit);
        page.counter_of(REFUSED, label, *refused);
    }
}
