//! `cargo xtask test`: all that must hold before a change goes in. CI runs the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::instructions::{Instructions, can_count};
use crate::interop::run_with_table;

#[derive(Args)]
pub(crate) struct Checks {
    /// Take these steps only; all if none is named
    #[arg(value_enum)]
    steps: Vec<Step>,
    /// How long each fuzz target runs
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    fuzz_seconds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// rustfmt has nothing to change
    Format,
    /// Clippy has nothing to say, the rivals' programs aside
    Lint,
    /// Every test of the workspace, documentation and peers included, the rivals' programs aside
    Test,
    /// Each fuzz target for a moment, on its seeds and on what comes of them
    Fuzz,
    /// No message costs more instructions or allocations than `bench/instructions.json` says
    Instructions,
    /// The documentation builds without a warning
    Docs,
}

impl Checks {
    /// Takes every step, also after one that failed, and says how each went
    pub(crate) fn run(&self) -> Result<()> {
        let steps = if self.steps.is_empty() { Step::value_variants() } else { &self.steps };
        let mut outcomes = Vec::new();
        for step in steps {
            println!("--- {}", step.name());
            let began = Instant::now();
            let outcome = self.take(*step);
            if let Err(error) = &outcome {
                eprintln!("{}: {error:#}", step.name());
            }
            outcomes.push((step, outcome.is_ok(), began.elapsed()));
        }
        println!("---");
        for (step, is_ok, took) in &outcomes {
            let verdict = if *is_ok { "ok" } else { "FAILED" };
            println!("{:<14}{verdict:<8}{:>5.0} s", step.name(), took.as_secs_f64());
        }
        let failed: Vec<&str> = outcomes.iter().filter(|(_, is_ok, _)| !is_ok).map(|(step, ..)| step.name()).collect();
        if !failed.is_empty() {
            bail!("{} failed; `cargo xtask test {}` goes there again", failed.join(" and "), failed.join(" "));
        }
        Ok(())
    }

    fn take(&self, step: Step) -> Result<()> {
        match step {
            Step::Format => cargo(&["fmt", "--all", "--check"]),
            Step::Lint => {
                let mut command = Command::new(env!("CARGO"));
                command.args(["clippy", "--workspace"]).args(WITHOUT_RIVALS);
                succeed(command.args(["--all-targets", "--", "-D", "warnings"]))
            }
            Step::Test => {
                let (peers, old) = (install_peers(), install_old_libzmq());
                for error in [peers.as_ref().err(), old.as_ref().err()].into_iter().flatten() {
                    // In CI a missing peer is a failure; a person is told
                    if std::env::var_os("CI").is_some() {
                        bail!("{error:#}");
                    }
                    eprintln!("without it the tests against it are left out: {error:#}");
                }
                let mut command = Command::new(env!("CARGO"));
                command.args(["test", "--workspace", "--no-fail-fast"]).args(WITHOUT_RIVALS);
                if let Ok(path) = peers {
                    command.env("PYTHONPATH", path);
                }
                if let Ok(library) = old {
                    command.env("TIDINGS_OLD_LIBZMQ", library);
                }
                run_with_table(&mut command)
            }
            Step::Fuzz => fuzz(Duration::from_secs(self.fuzz_seconds.into())),
            Step::Instructions => {
                if !can_count() && std::env::var_os("CI").is_none() {
                    eprintln!("left out, as valgrind is missing: apt-get install valgrind; CI has it and will count");
                    return Ok(());
                }
                Instructions::default().run()
            }
            Step::Docs => {
                let mut command = Command::new(env!("CARGO"));
                command.args(["doc", "--workspace", "--no-deps"]).args(WITHOUT_RIVALS);
                succeed(command.env("RUSTDOCFLAGS", "-D warnings"))
            }
        }
    }
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Lint => "lint",
            Self::Test => "test",
            Self::Fuzz => "fuzz",
            Self::Instructions => "instructions",
            Self::Docs => "docs",
        }
    }
}

/// Puts the Python packages that drive real peers under `target/`, where they touch nothing else
///
/// No virtual environment: Debian's Python can't make one without another package.
pub(crate) fn install_peers() -> Result<PathBuf> {
    install("tests/peers/requirements.txt", "target/python", &[])
}

/// Puts the libzmq of old Python installations under `target/`, and returns where it is
///
/// It comes in a wheel for a Python of its time, which none of today can load: the library alone is wanted.
pub(crate) fn install_old_libzmq() -> Result<PathBuf> {
    let for_python = ["--python-version", "36", "--implementation", "cp", "--abi", "cp36m"];
    let for_system = ["--platform", "manylinux1_x86_64", "--only-binary=:all:", "--no-deps"];
    let path = install(
        "tests/peers/requirements-old.txt",
        "target/python-old",
        &[for_python.as_slice(), for_system.as_slice()].concat(),
    )?;
    let folder = path.join("zmq/.libs");
    let entries = fs::read_dir(&folder).with_context(|| format!("can't read {}", folder.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let is_libzmq = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libzmq"));
    paths.find(is_libzmq).with_context(|| format!("no libzmq in {}", folder.display()))
}

/// Installs what a file of requirements asks for into a folder, unless that is there
fn install(requirements: &str, folder: &str, more: &[&str]) -> Result<PathBuf> {
    let (wanted, path) = (root().join(requirements), root().join(folder));
    let requirements = fs::read_to_string(&wanted).with_context(|| format!("can't read {}", wanted.display()))?;
    let stamp = path.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == requirements) {
        return Ok(path);
    }
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"]).arg(&path).arg("-r").arg(&wanted);
    command.args(more).envs([("PIP_ROOT_USER_ACTION", "ignore"), ("PIP_DISABLE_PIP_VERSION_CHECK", "1")]);
    succeed(&mut command)?;
    fs::write(&stamp, requirements).with_context(|| format!("can't write {}", stamp.display()))?;
    Ok(path)
}

/// Builds the fuzz targets with libFuzzer's instrumentation, on the stable toolchain, and runs each
///
/// The flags are those of `fuzz/README.md`; what is found lands in `fuzz/artifacts/`.
fn fuzz(each: Duration) -> Result<()> {
    let folder = root().join("fuzz");
    let host = host()?;
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--release", "--target", &host]).current_dir(&folder);
    succeed(build.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FUZZ_FLAGS))?;
    let mut targets = Vec::new();
    for entry in fs::read_dir(folder.join("fuzz_targets"))? {
        let path = entry?.path();
        targets.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    targets.sort();
    let mut found = Vec::new();
    for target in &targets {
        let grown = folder.join("target/corpus").join(target);
        let artifacts = folder.join("artifacts").join(target);
        fs::create_dir_all(&grown)?;
        fs::create_dir_all(&artifacts)?;
        let program = folder.join("target").join(&host).join("release").join(target);
        let mut run = Command::new(&program);
        // SQLite, in C and instrumented too, has two constants of one name in two functions
        run.env("ASAN_OPTIONS", "detect_odr_violation=0");
        run.arg(format!("-max_total_time={}", each.as_secs())).args(["-max_len=4096", "-timeout=10"]);
        run.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&grown);
        run.arg(folder.join("corpus").join(target));
        let output = run.output().with_context(|| format!("can't run {}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            println!("{target:<18}{}", said.lines().rfind(|line| line.starts_with("Done")).unwrap_or("ran"));
        } else {
            eprintln!("{said}");
            found.push(target.as_str());
        }
    }
    if !found.is_empty() {
        bail!("findings in {}; the inputs are in {}", found.join(", "), folder.join("artifacts").display());
    }
    Ok(())
}

/// The platform's name: build scripts escape instrumentation only if the target is named
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("can't run rustc")?;
    let text = String::from_utf8(output.stdout).context("rustc -vV is not text")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

fn cargo(arguments: &[&str]) -> Result<()> {
    succeed(Command::new(env!("CARGO")).args(arguments))
}

/// Runs a command, from the project's root unless it says otherwise, and takes failure for an error
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    if command.get_current_dir().is_none() {
        command.current_dir(root());
    }
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("can't run {name}"))?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(())
}

/// The workspace's folder
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The crates we measure ourselves against bring some fifty more with them, and with those a minute of every run of
/// CI (55 s on two cores, from nothing); only their programs are left out, and only here: `format` has them
const WITHOUT_RIVALS: [&str; 2] = ["--exclude", "tidings-bench-rivals"];

const FUZZ_FLAGS: &str = "--cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Zsanitizer=address \
    -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
