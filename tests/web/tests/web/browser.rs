//! A headless Chromium, driven over the DevTools protocol: what a test needs of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// Under its names of several distributions.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// How long a page may take to show what is waited for, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A tab of a running browser; the first one ends it.
pub(crate) struct Browser {
    process: Option<Child>,
    port: u16,
    /// What the camera shows, once somebody uses it.
    camera: PathBuf,
    socket: WebSocketStream<TcpStream>,
    next: u64,
    _profile: Option<tempfile::TempDir>,
}

/// Whether there is a browser on this machine.
pub(crate) fn program() -> Option<&'static str> {
    PROGRAMS.into_iter().find(|name| {
        Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

impl Browser {
    /// The node's certificate is its own, so the browser is told not to ask about it.
    pub(crate) async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let camera = profile.path().join("camera.y4m");
        let process = Command::new(program().expect("a browser"))
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--ignore-certificate-errors",
                "--hide-scrollbars",
            ])
            .args(["--remote-debugging-port=0", "--no-first-run", "--disable-dev-shm-usage"])
            // A camera that shows what stands in a file, and a person who allows it.
            .args(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"])
            .arg(format!("--use-file-for-fake-video-capture={}", camera.display()))
            .arg("about:blank")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let (port, tab) = loop {
            assert!(begun.elapsed() < PATIENCE, "the browser did not start");
            sleep(Duration::from_millis(100)).await;
            let Ok(file) = fs::read_to_string(profile.path().join("DevToolsActivePort")) else { continue };
            let Some(port) = file.lines().next().and_then(|line| line.parse::<u16>().ok()) else { continue };
            let Some(tab) = tab(port).await else { continue };
            break (port, tab);
        };
        Self::attach(port, &tab, camera, Some((process, profile))).await
    }

    async fn attach(port: u16, tab: &str, camera: PathBuf, owned: Option<(Child, tempfile::TempDir)>) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (socket, _) = client_async(tab, stream).await.unwrap();
        let (process, profile) = owned.unzip();
        let mut browser = Self { process, port, camera, socket, next: 0, _profile: profile };
        browser.call("Performance.enable", json!({ "timeDomain": "threadTicks" })).await;
        for domain in ["Page", "Runtime", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    /// Another tab, at this address.
    pub(crate) async fn new_tab(&mut self, address: &str) -> Self {
        let made = self.call("Target.createTarget", json!({ "url": address })).await;
        let tab = format!("ws://127.0.0.1:{}/devtools/page/{}", self.port, made["targetId"].as_str().unwrap());
        Self::attach(self.port, &tab, self.camera.clone(), None).await
    }

    /// A command of the protocol, and its answer.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let text = json!({ "id": id, "method": method, "params": params }).to_string();
        self.socket.send(Message::text(text)).await.unwrap();
        loop {
            let message = self.socket.next().await.expect("the browser runs").unwrap();
            let Message::Text(text) = message else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            // Anything else is an event, which nobody waits for.
            if answer["id"] == id {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    pub(crate) async fn open(&mut self, address: &str) {
        self.call("Page.navigate", json!({ "url": address })).await;
        self.wait("the page", "document.readyState === 'complete'").await;
    }

    /// The value of a JavaScript expression, which may be a promise.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true });
        let answer = self.call("Runtime.evaluate", params).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// What the page's thread has worked so far.
    pub(crate) async fn processor_seconds(&mut self) -> f64 {
        let answer = self.call("Performance.getMetrics", json!({})).await;
        let metrics = answer["metrics"].as_array().unwrap();
        let tasks = metrics.iter().find(|one| one["name"] == "TaskDuration").expect("the browser counts its tasks");
        tasks["value"].as_f64().unwrap()
    }

    pub(crate) async fn text(&mut self, expression: &str) -> String {
        self.value(expression).await.as_str().unwrap_or_default().to_owned()
    }

    /// Until `condition` holds. A navigation in between is no error.
    pub(crate) async fn wait(&mut self, what: &str, condition: &str) {
        let begun = Instant::now();
        loop {
            let params = json!({ "expression": format!("Boolean({condition})"), "returnByValue": true });
            let answer = self.call("Runtime.evaluate", params).await;
            if answer["result"]["value"] == true {
                return;
            }
            if begun.elapsed() > PATIENCE {
                let seen = self.text("document.body.innerText").await;
                panic!("waited in vain for {what}; the page says:\n{seen}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits for a button with this text and presses it.
    pub(crate) async fn press(&mut self, label: &str) {
        let button = format!(
            "[...document.querySelectorAll('button')].find((one) => one.textContent.trim() === {label:?} && !one.disabled)"
        );
        self.wait(&format!("the button {label:?}"), &button).await;
        self.value(&format!("{button}.click()")).await;
    }

    /// Fills a field by its name.
    pub(crate) async fn fill(&mut self, name: &str, text: &str) {
        let field = format!("document.querySelector('[name={name}]')");
        self.wait(&format!("the field {name}"), &field).await;
        self.value(&format!(
            "(() => {{ const one = {field}; one.value = {}; one.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()",
            Value::from(text)
        ))
        .await;
    }

    /// Shows another view.
    pub(crate) async fn go(&mut self, view: &str) {
        self.value(&format!("location.hash = '#/{view}'")).await;
    }

    /// Waits for words anywhere on the page.
    pub(crate) async fn sees(&mut self, words: &str) {
        self.wait(
            &format!("the words {words:?}"),
            &format!("document.body.innerText.includes({})", Value::from(words)),
        )
        .await;
    }

    pub(crate) async fn size(&mut self, width: u32, height: u32) {
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", params).await;
    }

    pub(crate) async fn dark(&mut self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Holds a picture before the camera: rows of dark (true) and light squares, with a margin of light.
    pub(crate) fn hold_before_the_camera(&self, rows: &[Vec<bool>]) {
        const MARGIN: usize = 4;
        let (width, height) = (640, 480);
        let scale = height / (rows.len() + 2 * MARGIN);
        let mut file = format!("YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420jpeg\nFRAME\n").into_bytes();
        for y in 0..height {
            for x in 0..width {
                let square = |at: usize| (at / scale).checked_sub(MARGIN);
                let row = square(y).and_then(|y| rows.get(y));
                let is_dark = row.zip(square(x)).and_then(|(row, x)| row.get(x)).is_some_and(|dark| *dark);
                file.push(if is_dark { 30 } else { 210 });
            }
        }
        // No colours.
        file.extend(vec![128; width * height / 2]);
        fs::write(&self.camera, file).unwrap();
    }

    /// A picture of the whole page.
    pub(crate) async fn picture(&mut self, folder: &Path, name: &str) {
        let answer =
            self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true })).await;
        let bytes = BASE64_STANDARD.decode(answer["data"].as_str().unwrap()).unwrap();
        fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }
}

/// The address of the first tab.
async fn tab(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET /json/list HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    // The browser leaves the connection open.
    let mut answer = Vec::new();
    let tabs: Value = loop {
        if stream.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&answer);
        if let Some(tabs) = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok()) {
            break tabs;
        }
    };
    let tab = tabs.as_array()?.iter().find(|tab| tab["type"] == "page")?;
    Some(tab["webSocketDebuggerUrl"].as_str()?.to_owned())
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
