//! wrk and nginx, as peers: one makes the load, the other serves the same bytes from files.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use hotcell_integration::{command::Run, host, http};

use crate::Anything;

/// What wrk has measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Answers per second.
    pub(crate) rate: f64,
    /// 99 of 100 answers came within so many milliseconds.
    pub(crate) p99_ms: f64,
}

/// Who asks at the same time, in one closed loop each, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: u32,
    pub(crate) seconds: u32,
}

/// Asks for one address, or for those that a script of wrk makes.
///
/// # Errors
/// When wrk is missing, or not every answer was a good one.
pub(crate) fn ask(load: Load, url: &str, script: Option<&Path>) -> Result<Measured, Anything> {
    let mut args = vec![
        "-t1".to_owned(),
        format!("-c{}", load.connections),
        format!("-d{}s", load.seconds),
        "--latency".to_owned(),
    ];
    if let Some(script) = script {
        args.extend(["-s".to_owned(), script.display().to_string()]);
    }
    args.push(url.to_owned());
    let said = Run::new(Path::new("wrk")).args(args).wait().out();
    let line = |name: &str| said.lines().find_map(|line| line.trim().strip_prefix(name));
    let bad = line("Non-2xx").or(line("Socket errors"));
    let (Some(rate), Some(p99), None) = (line("Requests/sec:"), line("99%"), bad) else {
        return Err(format!("wrk at {url}: {said}").into());
    };
    Ok(Measured {
        rate: rate.trim().parse()?,
        p99_ms: milliseconds(p99.trim())?,
    })
}

fn milliseconds(text: &str) -> Result<f64, Anything> {
    let (digits, factor) = if let Some(digits) = text.strip_suffix("us") {
        (digits, 1e-3)
    } else if let Some(digits) = text.strip_suffix("ms") {
        (digits, 1.0)
    } else {
        (text.strip_suffix('s').ok_or("no unit")?, 1e3)
    };
    Ok(digits.parse::<f64>()? * factor)
}

/// nginx over a folder; ended when dropped.
pub(crate) struct Nginx {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Nginx {
    /// Starts it with a folder of its own.
    ///
    /// # Errors
    /// When it is missing or does not answer.
    pub(crate) fn start(folder: PathBuf) -> Result<Self, Anything> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let at = folder.display();
        fs::create_dir_all(folder.join("www"))?;
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {at}/{kind};"))
            .concat();
        let config = format!(
            "worker_processes auto; user root; daemon off; pid {at}/pid; error_log {at}/errors;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;\n\
             open_file_cache max=100; default_type application/octet-stream; {temporary}\n\
             server {{ listen 127.0.0.1:{port}; root {at}/www; }} }}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file).stderr(Stdio::null());
        let child = command.spawn().map_err(|e| format!("nginx: {e}"))?;
        let nginx = Self {
            child,
            folder,
            port,
        };
        nginx.put("ready", b"ready")?;
        let ready = || http::try_get(&nginx.url("ready")).filter(|answer| answer.status == 200);
        host::wait_for(Duration::from_secs(10), ready).ok_or("nginx does not answer")?;
        Ok(nginx)
    }

    /// Lays a file into its folder.
    ///
    /// # Errors
    /// When the disk is full.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Anything> {
        Ok(fs::write(self.folder.join("www").join(name), bytes)?)
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it when it is told to stop, and not when it is killed.
        let pid = i32::try_from(self.child.id()).expect("a process id");
        let _gone_already = kill(Pid::from_raw(pid), Signal::SIGTERM);
        drop(self.child.wait());
    }
}
