//! A real browser without a window, and pages of other origins to attack with.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::{
    By, ChromiumLikeCapabilities, DesiredCapabilities, WebDriver, error::WebDriverResult,
};

use crate::{host, http::runtime, paths};

/// Longest start of the browser's driver.
const START_MAX: Duration = Duration::from_secs(60);

/// Highest picture in pixels; long lists look the same further down.
const PICTURE_MAX: u32 = 6_000;

/// Chromium with its driver; both are gone when this is dropped.
pub struct Browser {
    driver: Option<WebDriver>,
    process: Child,
    profile: TempDir,
}

impl Browser {
    /// Starts it; downloads land in `downloads` without a question.
    ///
    /// # Panics
    /// When `chromium-driver` is not installed or does not start.
    pub fn start(downloads: &Path) -> Self {
        Self::start_with_names(downloads, "localhost")
    }

    /// The same; `name` is an address of this machine, as an attacker's name server would say.
    ///
    /// # Panics
    /// When `chromium-driver` is not installed or does not start.
    pub fn start_with_names(downloads: &Path, name: &str) -> Self {
        let profile = paths::scratch("profile");
        let mut command = Command::new("chromedriver");
        command
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command.stderr(Stdio::null()).env("HOME", profile.path());
        let mut process = command
            .spawn()
            .expect("chromedriver starts: is chromium-driver there?");
        let port = driver_port(&mut process);
        let driver = connect(port, profile.path(), downloads, name);
        let driver = runtime().block_on(driver).expect("chromium starts");
        Self {
            driver: Some(driver),
            process,
            profile,
        }
    }

    fn driver(&self) -> &WebDriver {
        self.driver
            .as_ref()
            .expect("the browser runs until it is dropped")
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&self, url: &str) {
        runtime()
            .block_on(self.driver().goto(url))
            .expect("the page opens");
    }

    /// Where the browser is now.
    pub fn url(&self) -> String {
        runtime()
            .block_on(self.driver().current_url())
            .expect("a page is open")
            .to_string()
    }

    /// The page's source as the browser has it now.
    pub fn source(&self) -> String {
        runtime()
            .block_on(self.driver().source())
            .expect("a page is open")
    }

    /// The page's title.
    pub fn title(&self) -> String {
        runtime()
            .block_on(self.driver().title())
            .expect("a page is open")
    }

    /// Types into the field that the CSS selector finds.
    pub fn fill(&self, selector: &str, text: &str) {
        let fill = async {
            let field = self.driver().find(By::Css(selector)).await?;
            field.clear().await?;
            field.send_keys(text).await
        };
        runtime()
            .block_on(fill)
            .unwrap_or_else(|error| panic!("no field `{selector}`: {error}"));
    }

    /// Clicks on what the CSS selector finds.
    pub fn click(&self, selector: &str) {
        let click = async { self.driver().find(By::Css(selector)).await?.click().await };
        runtime()
            .block_on(click)
            .unwrap_or_else(|error| panic!("no `{selector}`: {error}"));
    }

    /// Moves the pointer, as a person does who looks at the page.
    pub fn point(&self) {
        let moved = async {
            let chain = self.driver().action_chain();
            chain.move_by_offset(20, 20).perform().await
        };
        runtime()
            .block_on(moved)
            .unwrap_or_else(|error| panic!("no pointer: {error}"));
    }

    /// What a function body returns in the page.
    pub fn script(&self, code: &str) -> Value {
        let run = self.driver().execute(code, Vec::new());
        runtime()
            .block_on(run)
            .expect("the script runs")
            .json()
            .clone()
    }

    /// What an asynchronous function body gives to its last argument, which is a callback.
    pub fn script_later(&self, code: &str) -> Value {
        let run = self.driver().execute_async(code, Vec::new());
        runtime()
            .block_on(run)
            .expect("the script runs")
            .json()
            .clone()
    }

    /// Shows pages as on a screen of this width, to somebody who prefers light or dark.
    pub fn look(&self, width: u32, scheme: &str) {
        self.screen(width, 900);
        let tools = self.driver().cdp();
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        let look = async {
            let command = "Emulation.setEmulatedMedia";
            tools.send_raw(command, media).await
        };
        runtime().block_on(look).expect("chromium has these tools");
    }

    fn screen(&self, width: u32, height: u32) {
        let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 1,
            "mobile": width < 600 });
        let tools = self.driver().cdp();
        let command = tools.send_raw("Emulation.setDeviceMetricsOverride", screen);
        runtime()
            .block_on(command)
            .expect("chromium has these tools");
    }

    /// From now on pages run no scripts, as for a person who has switched them off.
    pub fn without_scripts(&self) {
        let (tools, off) = (self.driver().cdp(), json!({ "value": true }));
        let command = tools.send_raw("Emulation.setScriptExecutionDisabled", off);
        runtime()
            .block_on(command)
            .expect("chromium has these tools");
    }

    /// From now on nothing is fetched whose address fits the pattern.
    pub fn refuse(&self, pattern: &str) {
        let (tools, urls) = (self.driver().cdp(), json!({ "urls": [pattern] }));
        let refuse = async {
            tools.send_raw("Network.enable", json!({})).await?;
            tools.send_raw("Network.setBlockedURLs", urls).await
        };
        runtime()
            .block_on(refuse)
            .expect("chromium has these tools");
    }

    /// Keeps a picture of the whole page, as on a screen that is high enough.
    pub fn picture(&self, file: &Path) {
        let size = |what: &str| {
            let size = self.script(&format!("return {what}")).as_u64();
            size.and_then(|size| u32::try_from(size).ok())
        };
        let (width, height) = (
            size("innerWidth"),
            size("document.documentElement.scrollHeight"),
        );
        self.screen(
            width.expect("a width"),
            height.expect("a height").min(PICTURE_MAX),
        );
        let picture = self.driver().screenshot(file);
        runtime().block_on(picture).expect("the page can be drawn");
    }

    /// The visible text of the page.
    pub fn text(&self) -> String {
        let text = self.script("return document.body.innerText");
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until `look` says yes about the page's visible text.
    ///
    /// # Panics
    /// When it does not within `time_max`.
    pub fn wait_until(&self, what: &str, time_max: Duration, look: impl Fn(&Self) -> bool) {
        let seen = host::wait_for(time_max, || look(self).then_some(()));
        assert!(
            seen.is_some(),
            "waited for {what}; at {}:\n{}",
            self.url(),
            self.text()
        );
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            // A browser that is gone already cannot be asked to quit.
            drop(runtime().block_on(driver.quit()));
        }
        // Whatever a crashed driver leaves behind is a child of ours or below one.
        let below = host::descendants(self.process.id());
        drop(self.process.kill());
        drop(self.process.wait());
        for process in host::alive(&below) {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(process.pid).unwrap_or(i32::MAX));
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        drop(std::fs::remove_dir_all(self.profile.path()));
    }
}

/// Reads the port that the driver chose from what it prints.
fn driver_port(process: &mut Child) -> u16 {
    let stdout = process.stdout.take().expect("stdout is a pipe");
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let port = line
                .split("on port ")
                .nth(1)
                .map(|rest| rest.trim_end_matches('.'));
            if let Some(port) = port
                .and_then(|text| text.parse::<u16>().ok())
                .filter(|port| *port > 0)
            {
                let _ = sender.try_send(port);
            }
        }
    });
    receiver
        .recv_timeout(START_MAX)
        .expect("chromedriver says its port")
}

async fn connect(
    port: u16,
    profile: &Path,
    downloads: &Path,
    name: &str,
) -> WebDriverResult<WebDriver> {
    let mut wanted = DesiredCapabilities::chrome();
    wanted.set_binary("/usr/bin/chromium")?;
    let profile = format!("--user-data-dir={}", profile.join("data").display());
    // Chromium's own sandbox does not run as root; it opens pages of ours only.
    for arg in [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        &profile,
    ] {
        wanted.add_arg(arg)?;
    }
    // No name resolves but these: the browser talks to nobody else.
    let names = format!("MAP {name} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1");
    wanted.add_arg(&format!("--host-resolver-rules={names}"))?;
    wanted.add_experimental_option(
        "prefs",
        json!({
            "download.default_directory": downloads,
            "download.prompt_for_download": false,
            "safebrowsing.enabled": false,
        }),
    )?;
    WebDriver::new(format!("http://127.0.0.1:{port}"), wanted).await
}

/// Serves one page on a port, that is an origin, of its own; every path gets the same page.
pub fn other_origin(page: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener
        .set_nonblocking(true)
        .expect("a listener can be non-blocking");
    let address = listener.local_addr().expect("a listener has an address");
    let app = axum::Router::new().fallback(move || async move { axum::response::Html(page) });
    runtime().spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("in a runtime");
        axum::serve(listener, app)
            .await
            .expect("serving does not end");
    });
    address
}
