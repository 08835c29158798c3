//! A browser without a screen, driven through its debugging port.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]
#![allow(dead_code, reason = "each test file uses a part of what they share")]

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::common::{Folder, PATIENCE};
use crate::support::has;

/// The name of a browser that runs without a screen, if one is here.
pub fn browser() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    names.into_iter().find(|name| has(name, "--version"))
}

/// A browser with one page. It is killed when this is dropped.
pub struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    session: String,
    sent: u64,
    /// What pages have complained about: errors of scripts, the network and the policy.
    pub complaints: Vec<String>,
    _folder: Folder,
}

impl Browser {
    pub fn start(name: &str) -> Self {
        let folder = Folder::new();
        let mut command = Command::new(name);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]);
        command.args(["--no-first-run", "--disable-background-networking", "--disable-sync"]);
        command.args(["--disable-component-update", "--remote-debugging-port=0"]);
        command.arg(format!("--user-data-dir={}", folder.path("profile").display()));
        let mut child = command
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = lines
            .find_map(|line| line.unwrap().strip_prefix("DevTools listening on ").map(String::from))
            .expect("the browser says where its debugging port is");
        // It says more later, and stops if nobody reads it.
        std::thread::spawn(move || lines.for_each(drop));
        let address = url.split('/').nth(2).unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = tungstenite::client(url.as_str(), stream).unwrap();
        let (session, complaints) = (String::new(), Vec::new());
        let mut browser = Self { child, socket, session, sent: 0, complaints, _folder: folder };
        browser.open_page();
        browser
    }

    fn open_page(&mut self) {
        let target = self.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let how = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.ask("Target.attachToTarget", how);
        self.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            self.ask(domain, json!({}));
        }
    }

    /// Asks for something, and returns what is answered.
    pub fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        loop {
            let message: Value =
                serde_json::from_str(self.socket.read().unwrap().to_text().unwrap()).unwrap();
            match message["method"].as_str() {
                Some("Runtime.exceptionThrown") => {
                    self.complaints.push(message["params"].to_string());
                }
                Some("Log.entryAdded") if message["params"]["entry"]["level"] == "error" => {
                    self.complaints.push(message["params"].to_string());
                }
                Some("Runtime.consoleAPICalled") if message["params"]["type"] == "error" => {
                    self.complaints.push(message["params"].to_string());
                }
                _ if message["id"] == self.sent => {
                    assert!(message["error"].is_null(), "{method}: {message}");
                    return message["result"].clone();
                }
                _ => {}
            }
        }
    }

    pub fn open(&mut self, url: &str) {
        self.ask("Page.navigate", json!({ "url": url }));
        self.until("document.readyState === 'complete'", PATIENCE);
    }

    /// Returns what an expression is on the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let how = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.ask("Runtime.evaluate", how);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression holds on the page.
    pub fn until(&mut self, expression: &str, patience: Duration) {
        let end = Instant::now() + patience;
        while self.value(expression) != Value::Bool(true) {
            if Instant::now() >= end {
                let text = self.value("document.body.innerText");
                panic!("{expression} does not hold on the page, but: {text}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses a key, as a user does.
    pub fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.ask("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": key }));
        }
    }

    /// Changes the size of the page, and whether it is dark.
    pub fn look(&mut self, width: u32, is_dark: bool) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.ask("Emulation.setDeviceMetricsOverride", size);
        let value = if is_dark { "dark" } else { "light" };
        let feature = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.ask("Emulation.setEmulatedMedia", json!({ "features": feature }));
    }

    /// Returns a picture of the page as base64.
    pub fn picture(&mut self) -> String {
        let picture = self.ask("Page.captureScreenshot", json!({ "format": "png" }));
        picture["data"].as_str().unwrap().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
