//! What goes wrong with people, browsers and nodes, and what the page makes of it.

use std::time::Duration;

use leyden_client::demo::NOBODY;
use leyden_proto::{
    invoicesrpc::{AddHoldInvoiceRequest, SettleInvoiceMsg},
    lnrpc::{Invoice, ListPaymentsRequest},
};
use serde_json::{Value, json};

use crate::{Walk, look, step};

/// A browser whose clock can be set while the page is open: `setClock(milliseconds)` beside the real time.
const OTHER_CLOCK: &str = r"(() => {
    const Real = Date;
    let off = Number(sessionStorage.getItem('clock') || 0);
    window.setClock = (by) => { off = by; sessionStorage.setItem('clock', String(by)); };
    window.Date = class extends Real {
        constructor(...from) { if (from.length) super(...from); else super(Real.now() + off); }
        static now() { return Real.now() + off; }
    };
})()";
const DAY_MS: i64 = 86_400_000;

/// A browser that lets no page use a camera, as over plain HTTP.
const NO_CAMERA: &str = "Object.defineProperty(navigator, 'mediaDevices', { value: undefined })";

const HELD_PREIMAGE: [u8; 32] = [9; 32];

impl Walk {
    async fn before_scripts(&mut self, script: &str) -> Value {
        self.browser.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await["identifier"]
            .clone()
    }

    async fn reload(&mut self) {
        self.browser.call("Page.reload", json!({})).await;
        self.browser
            .wait("the page", "document.querySelector('nav') && document.querySelector('main').dataset.shown")
            .await;
    }

    /// Presses what the question offers.
    async fn answer(&mut self) {
        self.browser.wait("the question", "document.querySelector('dialog[open]')").await;
        self.browser.value("document.querySelector('dialog .primary').click()").await;
    }

    async fn payments_made(&self) -> usize {
        let all = ListPaymentsRequest { include_incomplete: true, max_payments: 1_000, ..Default::default() };
        let client = self.node.client().await;
        client.lightning().list_payments(all).await.unwrap().into_inner().payments.len()
    }

    pub(crate) async fn whoever_has_nothing_is_told_where_to_begin(&mut self) {
        step("no coins and no channels");
        self.browser.sees("No coins yet").await;
        self.browser.go("pay").await;
        self.browser.sees("nothing that could be paid with").await;
        self.browser.go("receive").await;
        self.browser.sees("Nobody can pay you over Lightning yet").await;
        self.browser.press("New address").await;
        self.browser.wait("an address", "document.querySelector('#address') && document.querySelector('svg.qr')").await;
        self.browser.go("channels").await;
        self.browser.sees("No channel is open").await;
        self.browser.go("network").await;
        self.browser.sees("No public channel is known yet").await;
        self.picture("nothing-yet").await;
    }

    pub(crate) async fn the_clock_of_the_browser_is_off(&mut self) {
        step("the browser's clock is a day ahead, a day behind, and set meanwhile");
        let script = self.before_scripts(OTHER_CLOCK).await;
        self.mine(1).await;
        let invoice = self.peer.invoice(1_000, "good for a day").await.unwrap();
        for off in [DAY_MS, -DAY_MS] {
            self.browser.value(&format!("sessionStorage.setItem('clock', '{off}')")).await;
            self.browser.go("").await;
            self.reload().await;
            let really = self.browser.value("Date.now() - performance.timeOrigin - performance.now()").await;
            assert!((really.as_f64().unwrap() - off as f64).abs() < 60_000.0, "the clock is set: {really}");
            self.browser.wait("the blocks", "document.querySelectorAll('.block').length > 3").await;
            let ages = self.browser.text("document.querySelector('.blocks').innerText").await;
            assert!(ages.contains("now") || ages.contains(" s ago") || ages.contains(" min ago"), "{ages}");
            assert!(!ages.contains(" h ago") && !ages.contains("days ago"), "{ages}");
            self.browser.go("pay").await;
            self.browser.fill("invoice", &invoice).await;
            self.browser
                .wait("how long it is good for", "/^2[34] h$/.test(document.querySelector('#left')?.textContent)")
                .await;
            self.browser.go("receive").await;
            self.browser.press("Make an invoice").await;
            let good = "/^Good for (59|60) min$/.test(document.querySelector('#left')?.textContent)";
            self.browser.wait("an hour", good).await;
            // Somebody sets the clock.
            self.browser.value(&format!("setClock({})", -5 * off)).await;
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            self.browser.wait("an hour still", good).await;
        }
        self.browser.call("Page.removeScriptToEvaluateOnNewDocument", json!({ "identifier": script })).await;
        self.reload().await;
    }

    pub(crate) async fn an_invoice_is_read_by_the_camera(&mut self) {
        step("the camera");
        let script = self.before_scripts(NO_CAMERA).await;
        self.browser.go("pay").await;
        self.reload().await;
        let button =
            "[...document.querySelectorAll('button')].some((one) => one.textContent === 'Scan with the camera')";
        assert_eq!(self.browser.value(button).await, false, "what cannot work is not offered");
        self.browser.call("Page.removeScriptToEvaluateOnNewDocument", json!({ "identifier": script })).await;
        self.reload().await;

        // Another wallet's picture: an address, with an invoice beside it.
        let invoice = self.peer.invoice(4_000, "seen by a camera").await.unwrap();
        let code = Value::from(format!("bitcoin:{NOBODY}?amount=0.00004&lightning={}", invoice.to_uppercase()));
        let rows = self.browser.value(&format!("import('/qr.js').then((qr) => qr.modules({code}))")).await;
        self.browser.hold_before_the_camera(&serde_json::from_value::<Vec<Vec<bool>>>(rows).unwrap());
        self.browser.press("Scan with the camera").await;
        self.browser.wait("the picture", "document.querySelector('video')?.srcObject").await;
        self.browser.value("window.track = document.querySelector('video').srcObject.getTracks()[0]").await;
        self.browser.sees("seen by a camera").await;
        assert_eq!(self.browser.value("track.readyState === 'ended' && !document.querySelector('video')").await, true);
    }

    pub(crate) async fn what_is_no_invoice_is_told_what_it_is(&mut self) {
        step("what people paste");
        self.browser.go("pay").await;
        for (text, said) in [
            (NOBODY, "sent to it under Wallet"),
            ("satoshi@example.com", "asks no other server"),
            ("02aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a node's key"),
            ("once upon a time", "This is no invoice"),
        ] {
            self.browser.fill("invoice", text).await;
            self.browser.sees(said).await;
        }
        self.browser.fill("invoice", "lnbcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqq").await;
        self.browser.wait("the node's word", "document.querySelector('#details .problem')").await;
        self.browser.go("wallet").await;
        self.browser.fill("addr", "nowhere").await;
        self.browser.fill("amount", "ten").await;
        self.browser.press("Send").await;
        self.browser.sees("is no amount").await;
        self.browser.fill("amount", "25,000 sat").await;
        self.browser.press("Send").await;
        self.browser.wait("the question", "document.querySelector('dialog[open]')").await;
        assert!(self.browser.text("document.querySelector('dialog').innerText").await.contains("25,000 sat"));
        self.answer().await;
        self.browser.wait("the refusal", "document.querySelector('form .problem:not([hidden])')").await;
    }

    pub(crate) async fn invoices_that_cannot_be_paid_are_refused_in_words(&mut self) {
        step("an expired invoice, one that is paid, a very long one");
        let request = Invoice { value: 1_000, memo: "too late".to_owned(), expiry: 1, ..Invoice::default() };
        let late = self.peer.client().unwrap().lightning().add_invoice(request).await.unwrap().into_inner();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        self.browser.go("pay").await;
        self.browser.fill("invoice", &late.payment_request).await;
        self.browser.sees("it has expired").await;
        self.browser.press("Pay").await;
        self.browser.sees("Ask for a new one").await;

        let twice = self.peer.invoice(1_500, "once is enough").await.unwrap();
        let before = self.payments_made().await;
        for is_second in [false, true] {
            self.browser.fill("invoice", &twice).await;
            self.browser.sees("once is enough").await;
            self.browser.press("Pay").await;
            // Both hands of somebody in a hurry.
            self.browser.wait("the question", "document.querySelector('dialog[open]')").await;
            self.browser
                .value("(() => { const one = document.querySelector('dialog .primary'); one.click(); one.click(); })()")
                .await;
            if is_second {
                self.browser.wait("the refusal", "document.querySelector('form .problem:not([hidden])')").await;
                self.browser.sees("paid").await;
            } else {
                self.browser.wait("the payment", "document.querySelector('[data-status=SUCCEEDED]')").await;
                self.browser.wait("an empty form", "document.querySelector('[name=invoice]').value === ''").await;
            }
        }
        assert_eq!(self.payments_made().await, before + 1);

        let memo = "W".repeat(600);
        let long = self.peer.invoice(2_000, &memo).await.unwrap();
        self.browser.size(360, 760).await;
        self.browser.fill("invoice", &long).await;
        self.browser.sees(&memo[..100]).await;
        look::is_usable(&mut self.browser, "a very long invoice", 360).await;
        self.picture("long").await;
        self.browser.size(1100, 900).await;
    }

    pub(crate) async fn a_payment_goes_on_whatever_is_done_with_the_page(&mut self) {
        step("back, reload, another view, a block: while a payment is under way");
        let hash = leyden_channels::types::PaymentPreimage(HELD_PREIMAGE).hash().0.to_vec();
        let request =
            AddHoldInvoiceRequest { hash, memo: "held for a while".to_owned(), value: 3_000, ..Default::default() };
        let held = self.peer.client().unwrap().invoices().add_hold_invoice(request).await.unwrap().into_inner();
        self.browser.go("channels").await;
        self.browser.go("pay").await;
        self.browser.fill("invoice", &held.payment_request).await;
        self.browser.sees("held for a while").await;
        self.browser.press("Pay").await;
        self.browser.wait("the question", "document.querySelector('dialog[open]')").await;
        // The button of the browser, and not that of the page: nothing is paid.
        let before = self.payments_made().await;
        self.browser.value("history.back()").await;
        self.browser.wait("no question", "!document.querySelector('dialog') && location.hash === '#/channels'").await;
        self.browser.value("history.forward()").await;
        self.browser.wait("the form again", "document.querySelector('[name=invoice]')").await;
        assert_eq!(self.payments_made().await, before);
        self.browser.fill("invoice", &held.payment_request).await;
        self.browser.sees("held for a while").await;
        self.browser.press("Pay").await;
        self.answer().await;
        self.browser
            .wait("a part under way", "document.querySelector('.steps li')?.innerText.includes('under way')")
            .await;
        self.picture("under-way").await;
        self.mine(1).await;
        self.browser.go("").await;
        self.browser.sees("Under way").await;
        self.browser.go("pay").await;
        self.browser.wait("it again", "document.querySelector('[data-status=IN_FLIGHT]')").await;
        self.reload().await;
        self.browser.wait("it after a reload", "document.querySelector('[data-status=IN_FLIGHT]')").await;
        let settle = SettleInvoiceMsg { preimage: HELD_PREIMAGE.to_vec() };
        self.peer.client().unwrap().invoices().settle_invoice(settle).await.unwrap();
        self.browser.wait("its end", "document.querySelector('[data-status=SUCCEEDED]')").await;
        self.browser.sees("arrived").await;
        assert_eq!(self.payments_made().await, before + 1);
    }

    pub(crate) async fn a_half_filled_form_is_left_alone(&mut self) {
        step("a form half filled while the node has news");
        self.browser.go("towers").await;
        self.browser.wait("the form", "document.querySelector('[name=pubkey]')").await;
        self.browser.value("document.querySelector('[name=pubkey]').focus()").await;
        self.browser.fill("pubkey", "02ab").await;
        // A tower is added elsewhere: what is shown changes.
        let key = self.peer.node_id().await.unwrap();
        let add = format!(
            "fetch('/leyden.Towers/AddTower', {{ method: 'POST', headers: {{ 'Grpc-Metadata-macaroon': sessionStorage.getItem('macaroon'), 'Content-Type': 'application/json' }}, body: JSON.stringify({{ pubkey: '{key}', address: '127.0.0.1:1' }}) }}).then((one) => one.status)"
        );
        assert_eq!(self.browser.value(&add).await, 200);
        self.browser.sees("127.0.0.1:1").await;
        self.browser.sees("! not connected").await;
        let kept = "document.activeElement.name === 'pubkey' && document.activeElement.value === '02ab'";
        assert_eq!(self.browser.value(kept).await, true);
        self.picture("tower").await;
    }

    pub(crate) async fn a_swap_is_shown(&mut self) {
        step("a swap");
        let quote = "fetch('/leyden.Swap/QuoteSubmarine', { method: 'POST', headers: { 'Grpc-Metadata-macaroon': sessionStorage.getItem('macaroon'), 'Content-Type': 'application/json' }, body: JSON.stringify({ coins: '50000', payment: '49000' }) }).then((one) => one.text().then((text) => one.status === 200 ? 'quoted' : text))";
        assert_eq!(self.browser.text(quote).await, "quoted");
        self.browser.wait("the swap", "document.querySelector('#swaps [data-phase=quoted]')").await;
        self.browser.sees("50,000 sat").await;
        self.picture("swap").await;
    }

    pub(crate) async fn two_tabs_do_not_know_each_other(&mut self) {
        step("another tab has to log in by itself");
        let address = self.node.address();
        let other = "new Promise((done) => { const kept = sessionStorage.getItem('macaroon'); done(kept !== null && localStorage.length === 0 && document.cookie === ''); })";
        assert_eq!(self.browser.value(other).await, true, "what opens the node is kept in this tab alone");
        let mut tab = self.browser.new_tab(&address).await;
        tab.sees("Wallet password").await;
        tab.call("Page.close", json!({})).await;
    }
}
