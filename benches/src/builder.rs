//! Builds the servers that are asked for, and reports which cannot be built and why.

use std::error::Error;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use indicatif::ProgressBar;
use serde::Serialize;

use crate::servers::{Interpreter, Library, Server, Source};

/// A server that can be started.
#[derive(Clone)]
pub(crate) struct Built {
    pub(crate) server: Server,
    program: PathBuf,
    /// Before the address, and after it.
    before: Vec<String>,
    after: Vec<String>,
}

/// What could not be measured, and why.
#[derive(Serialize)]
pub(crate) struct Unmeasured {
    pub(crate) name: String,
    pub(crate) reason: String,
}

impl fmt::Display for Unmeasured {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.name, self.reason)
    }
}

impl Built {
    /// Returns what starts it at a free port of this host.
    pub(crate) fn command_line(&self) -> Vec<String> {
        let program = [self.program.display().to_string()];
        let address = ["127.0.0.1:0".to_owned()];
        [&program[..], &self.before, &address, &self.after].concat()
    }
}

/// Returns the folder of this crate.
pub(crate) fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns where everything that is built goes.
pub(crate) fn target() -> PathBuf {
    home().join("target")
}

/// Builds all; a server that lacks something is skipped, one that does not compile is an error.
pub(crate) fn build(servers: &[Server]) -> Result<(Vec<Built>, Vec<Unmeasured>), Box<dyn Error>> {
    let progress = ProgressBar::new_spinner();
    progress.enable_steady_tick(std::time::Duration::from_millis(100));
    progress.set_message("building the servers in Rust");
    build_rust(servers)?;
    let (mut built, mut skipped) = (Vec::new(), Vec::new());
    for server in servers {
        progress.set_message(format!("building {}", server.name));
        match build_one(server)? {
            Ok(one) => built.push(one),
            Err(reason) => skipped.push(Unmeasured { name: server.name.to_owned(), reason }),
        }
    }
    progress.finish_and_clear();
    Ok((built, skipped))
}

type Outcome = Result<Result<Built, String>, Box<dyn Error>>;

fn build_one(server: &Server) -> Outcome {
    let built =
        |program, before, after| Ok(Ok(Built { server: server.clone(), program, before, after }));
    match &server.source {
        Source::Example { optimised } => {
            built(build_example("echo_server", *optimised)?, Vec::new(), Vec::new())
        }
        Source::Rust { program, .. } => {
            built(target().join("server").join(program), Vec::new(), Vec::new())
        }
        Source::C { file, library } => match build_c(file, *library)? {
            Ok(program) => built(program, Vec::new(), Vec::new()),
            Err(missing) => Ok(Err(missing)),
        },
        Source::Script { file, interpreter } => match can_run(interpreter) {
            true => {
                let script = home().join("servers/scripts").join(file);
                let after = interpreter.arguments.iter().map(ToString::to_string).collect();
                built(interpreter.program.into(), vec![script.display().to_string()], after)
            }
            false => Ok(Err(interpreter.missing.to_owned())),
        },
    }
}

/// Builds all servers of `servers/` that are asked for, in one go, with the features that they
/// need.
fn build_rust(servers: &[Server]) -> Result<(), Box<dyn Error>> {
    let mut command = cargo("build");
    command.args(["--package", "readiness-benches-servers", "--profile", "server", "--locked"]);
    command.arg("--manifest-path").arg(home().join("Cargo.toml"));
    command.arg("--target-dir").arg(target());
    let mut any = false;
    for server in servers {
        if let Source::Rust { program, feature } = server.source {
            command.args(["--bin", program, "--features", feature]);
            any = true;
        }
    }
    if any { run(&mut command).map(drop) } else { Ok(()) }
}

/// Builds an example of the repository, by its own workspace.
pub(crate) fn build_example(name: &str, optimised: bool) -> Result<PathBuf, Box<dyn Error>> {
    let target = target().join(if optimised { "readiness-lto" } else { "readiness" });
    let mut command = cargo("build");
    command.args(["--release", "--example", name, "--locked"]);
    command.arg("--manifest-path").arg(home().join("../Cargo.toml"));
    command.arg("--target-dir").arg(&target);
    if optimised {
        command.args(["--config", "profile.release.lto=\"fat\""]);
        command.args(["--config", "profile.release.codegen-units=1"]);
    }
    run(&mut command)?;
    Ok(target.join("release/examples").join(name))
}

fn build_c(
    file: &str,
    library: Option<Library>,
) -> Result<Result<PathBuf, String>, Box<dyn Error>> {
    if !succeeds(Command::new("cc").arg("--version")) {
        return Ok(Err("there is no C compiler (cc)".to_owned()));
    }
    if let Some(library) = library
        && !has_header(library.header)
    {
        return Ok(Err(format!("{} is not installed", library.package)));
    }
    let folder = target().join("c");
    std::fs::create_dir_all(&folder)?;
    let program = folder.join(file.trim_end_matches(".c"));
    let mut command = Command::new("cc");
    command.args(["-O3", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
    command.arg(home().join("servers/c").join(file));
    command.args(library.map(|library| format!("-l{}", library.name)));
    run(&mut command)?;
    Ok(Ok(program))
}

fn has_header(header: &str) -> bool {
    let mut command = Command::new("cc");
    command.args(["-E", "-x", "c", "-"]).stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    if let Some(mut source) = child.stdin.take() {
        // If the compiler has ended already, its status shows that.
        let _ = writeln!(source, "#include <{header}>");
    }
    child.wait().is_ok_and(|status| status.success())
}

fn can_run(interpreter: &Interpreter) -> bool {
    succeeds(Command::new(interpreter.program).args(interpreter.probe))
}

/// Returns whether a program is there, and succeeds.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Returns a command of the same cargo that runs this program.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand);
    command
}

/// Runs to the end, silently, and reports all output of a failure. Returns its standard output.
pub(crate) fn run(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{command:?} failed:\n{said}").into())
        }
    }
}
