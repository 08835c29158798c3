//! What the examples share: their command line, their lines of output, and how they end when
//! something fails.
//!
//! A program hands its usage text and the rest of itself to [`run`], which reads the command line
//! and starts the log. What fails is one line on standard error, named after the program, and exit
//! status 1. No macro of `std` prints here:
//! `println!` panics where the output is no longer read, as in `| head -1`, or where a disk is
//! full. A program that only prints a result ends with an error then ([`print()`]). A server has
//! clients to serve, so it logs what it could not print, and goes on ([`status()`]).

#![allow(dead_code, reason = "each example uses a part of what they share")]

use std::collections::HashMap;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use lexopt::{Arg, Parser, ValueExt};

mod address;
pub(crate) mod leaving;

pub(crate) use address::{Address, Name};

/// How a program ends: an error's message is for the user and names what it is about.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The arguments of the command line.
pub(crate) struct Arguments {
    values: Vec<String>,
    options: HashMap<&'static str, OsString>,
}

/// What the value of an option is that takes none.
pub(crate) const FLAG: &str = "";

/// Runs a program that takes values only, or prints its usage if it is asked for help.
pub(crate) fn run(usage: &str, program: impl FnOnce(Arguments) -> Outcome) -> ExitCode {
    run_with_options(usage, &[], program)
}

/// Runs a program that also takes the option `--file PATH`.
pub(crate) fn run_with_file(usage: &str, program: impl FnOnce(Arguments) -> Outcome) -> ExitCode {
    run_with_options(usage, &[("file", "a path")], program)
}

/// Runs a program that also takes these options: the name of each, and what its value is ([`FLAG`] if
/// it takes none).
pub(crate) fn run_with_options(
    usage: &str,
    options: &[(&'static str, &str)],
    program: impl FnOnce(Arguments) -> Outcome,
) -> ExitCode {
    let mut parser = Parser::from_env();
    let path = Path::new(parser.bin_name().unwrap_or("example")).to_owned();
    let outcome = match Arguments::parse(&mut parser, options) {
        Ok(Some(arguments)) => {
            start_log();
            program(arguments)
        }
        Ok(None) => print(usage.trim_end()),
        Err(error) => Err(format!("{error} (--help tells more)").into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let line = format!("{}: {error}\n", path.file_stem().unwrap_or_default().display());
            // Where this cannot be written either, the exit status says it alone.
            let _ = io::stderr().write_all(line.as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Prints a line that the program was run for.
pub(crate) fn print(line: impl Display) -> Outcome {
    write_line(&line.to_string())
        .map_err(|error| format!("cannot write to standard output: {error}").into())
}

/// Prints a line about what a server does. If that fails the line goes to the log, the first time
/// as a warning, and the server goes on.
pub(crate) fn status(line: impl Display) {
    static HAS_FAILED: AtomicBool = AtomicBool::new(false);
    let line = line.to_string();
    if let Err(error) = write_line(&line) {
        match HAS_FAILED.swap(true, Ordering::Relaxed) {
            false => log::warn!("cannot print {line:?}: {error}"),
            true => log::debug!("cannot print {line:?}: {error}"),
        }
    }
}

/// Writes a line whole, so that nothing of one that failed stays in a buffer for the next.
fn write_line(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(format!("{line}\n").as_bytes())?;
    stdout.flush()
}

impl Arguments {
    /// Reads the command line; `None` if it asks for help.
    fn parse(parser: &mut Parser, options: &[(&'static str, &str)]) -> Outcome<Option<Self>> {
        let mut arguments = Self { values: Vec::new(), options: HashMap::new() };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Short('h') | Arg::Long("help") => return Ok(None),
                Arg::Value(value) => arguments.values.push(value.string()?),
                Arg::Long(name) => match options.iter().find(|(known, _)| *known == name) {
                    Some((name, what)) => arguments.take_option(name, what, parser)?,
                    None => return Err(unexpected(argument)),
                },
                Arg::Short(_) => return Err(unexpected(argument)),
            }
        }
        Ok(Some(arguments))
    }

    fn take_option(&mut self, name: &'static str, what: &str, parser: &mut Parser) -> Outcome {
        let value = if what == FLAG { OsString::new() } else { parser.value()? };
        if value.is_empty() && what != FLAG {
            return Err(format!("--{name} takes {what}, and this one is empty").into());
        }
        match self.options.insert(name, value) {
            Some(_) => Err(format!("--{name} is given twice").into()),
            None => Ok(()),
        }
    }

    /// Returns the path after `--file`.
    pub(crate) fn file(&self) -> Option<OsString> {
        self.option("file")
    }

    /// Returns whether an option is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    /// Returns the value of an option, if it is given.
    pub(crate) fn option(&self, name: &str) -> Option<OsString> {
        self.options.get(name).cloned()
    }

    /// Returns the only value, the address to listen at, or 127.0.0.1:65432. A name is looked up.
    pub(crate) fn address(self) -> Outcome<Address> {
        let [value] = self.values()?;
        address(value)
    }

    /// Returns the number that an option gives, if it is given.
    pub(crate) fn number<N: FromStr + PartialOrd + Display>(
        &self,
        name: &str,
        range: RangeInclusive<N>,
    ) -> Outcome<Option<N>> {
        number(&format!("--{name}"), self.option(name), range)
    }

    /// Returns the values in their order, `None` for those not given.
    pub(crate) fn values<const MOST: usize>(self) -> Outcome<[Option<String>; MOST]> {
        match self.values.get(MOST) {
            Some(excess) => Err(format!("one argument too many: {excess:?}").into()),
            None => {
                let mut values = self.values.into_iter();
                Ok(std::array::from_fn(|_| values.next()))
            }
        }
    }
}

fn unexpected(argument: Arg<'_>) -> Box<dyn Error> {
    let error = argument.unexpected();
    format!("{error}; an argument that begins with - goes after --").into()
}

/// Returns the number that an argument gives, if it is given. The message about another begins with
/// `what`.
pub(crate) fn number<N: FromStr + PartialOrd + Display>(
    what: &str,
    argument: Option<impl AsRef<OsStr>>,
    range: RangeInclusive<N>,
) -> Outcome<Option<N>> {
    let Some(argument) = argument else { return Ok(None) };
    let (text, (least, most)) = (argument.as_ref(), (range.start(), range.end()));
    match text.to_str().and_then(|text| text.parse().ok()) {
        Some(number) if range.contains(&number) => Ok(Some(number)),
        _ => Err(format!("{what} takes a number from {least} to {most}, not {text:?}").into()),
    }
}

/// Returns the address that an argument gives, or 127.0.0.1:65432, to connect to. A name is not
/// looked up.
pub(crate) fn name(argument: Option<String>) -> Outcome<Name> {
    Ok(Name::new(argument)?)
}

/// Returns the address that an argument gives, or 127.0.0.1:65432, to listen at. A name is looked
/// up.
pub(crate) fn address(argument: Option<String>) -> Outcome<Address> {
    Ok(Address::new(argument)?)
}

/// Returns what makes the error of a server that could not listen name the address.
pub(crate) fn cannot_listen(address: impl Display) -> impl FnOnce(io::Error) -> String {
    move |error| format!("cannot listen at {address}: {error}")
}

/// Sends the log to standard error: warnings, and more if `RUST_LOG` says so.
fn start_log() {
    let warnings = env_logger::Env::default().default_filter_or("warn");
    env_logger::Builder::from_env(warnings).init();
}
