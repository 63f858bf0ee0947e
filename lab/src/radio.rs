//! The lab with a radio: the UAV's links to the edge hosts have a delay and a loss that follow its place. A mode of its own, so that all
//! other figures stay what they are.
//!
//! The kernel may lack netem, so a program of ours (`mose-radio`) stands between the UAV's port and the underlay's bridge and passes the
//! frames on. Without it the UAV is cut off, as it is without a radio.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::config::{
    AGENT_MAVLINK, CELLS, HOSTS, LabConfig, RADIO_MAVLINK, RADIO_PROGRAM, UNDERLAY_INTERFACE,
};
use crate::doctor::require_root;
use crate::error::{Context, LabError};
use crate::lab::Lab;
use crate::procfs::{MARK, Process, wait_gone};
use crate::run::{machine_program, run, tail};
use crate::underlay;

/// The host that has the radio.
const UAV: &str = "uav";
/// The radio's device on the underlay's bridge.
const TAP: &str = "radio";
/// How long the radio may take to be ready, and to end.
const READY: Duration = Duration::from_secs(10);
const ENDING: Duration = Duration::from_secs(3);
/// The file of its output. It says `ready`, then each change of the serving cell.
const LOG: &str = "radio.log";

impl Lab {
    /// The radio that the UAV has now, if it has one.
    pub fn radio(&self) -> Option<Process> {
        self.state.radio.filter(Process::alive)
    }

    /// Gives the UAV a radio: from now on its underlay goes through `mose-radio`. Harmless if it has one.
    ///
    /// # Errors
    /// The host is not running, the kernel has no TAP devices, or the radio does not start; then the UAV is connected as before.
    pub fn radio_on(&mut self, seed: u64) -> Result<(), LabError> {
        require_root()?;
        if self.radio().is_some() {
            return Ok(());
        }
        // What a radio that died left.
        self.radio_off()?;
        let (holder, uav) = (self.holder()?, self.host_pid(UAV)?);
        // The frames that the radio passes on have to be whole: of a packet's size, with checksums.
        self.offload("off")?;
        let radio = self.start_radio(holder, uav, seed)?;
        self.state.radio = Some(radio);
        self.state.save()?;
        let through = underlay::unplug(holder, UAV).and_then(|()| underlay::plug(holder, TAP));
        if let Err(error) = through {
            self.radio_off()?;
            return Err(error);
        }
        Ok(())
    }

    /// Takes the radio away: the UAV is connected directly again. Harmless if it has none.
    ///
    /// # Errors
    /// The host is not running, or the kernel refuses.
    pub fn radio_off(&mut self) -> Result<(), LabError> {
        require_root()?;
        let Some(radio) = self.state.radio else { return Ok(()) };
        radio.signal(Signal::SIGTERM);
        if !wait_gone(&[radio], ENDING).is_empty() {
            radio.signal(Signal::SIGKILL);
            wait_gone(&[radio], ENDING);
        }
        underlay::plug(self.holder()?, UAV)?;
        self.offload("on")?;
        self.state.radio = None;
        self.state.save()
    }

    fn holder(&self) -> Result<Process, LabError> {
        self.state
            .underlay
            .filter(Process::alive)
            .ok_or_else(|| LabError::HostDown { name: "underlay".into() })
    }

    fn offload(&self, how: &str) -> Result<(), LabError> {
        let argv = ["ethtool", "-K", UNDERLAY_INTERFACE, "tx", how, "tso", how, "gso", how];
        run(&format!("switching the UAV's offloads {how}"), &mut self.exec(UAV, &argv)?).map(drop)
    }

    fn start_radio(&self, holder: Process, uav: i32, seed: u64) -> Result<Process, LabError> {
        let config = self.config();
        let program = program(config)?;
        let log = config.state_dir.join(LOG);
        let output = File::create(&log).on("create", &log)?;
        let mut command = machine_program("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", holder.pid)).arg("--").arg(&program);
        command.args(["--port", UAV, "--tap", TAP, "--seed", &seed.to_string()]);
        for cell in CELLS {
            let address = HOSTS.iter().find(|(name, ..)| *name == cell.host).map(|(_, _, address)| *address);
            let Some(address) = address else { continue };
            command.arg("--cell").arg(format!("{}={address}@{},{}", cell.cell, cell.east_m, cell.north_m));
        }
        command.arg("--netns").arg(format!("/proc/{uav}/ns/net"));
        command.args(["--hear", &RADIO_MAVLINK.to_string(), "--tell", &AGENT_MAVLINK.to_string()]);
        let mut child = command
            // `down` finds it by its mark, whatever became of the state.
            .env(MARK, &config.state_dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone().on("open", &log)?)
            .stderr(output)
            // Ctrl-C is for the command that started it.
            .process_group(0)
            .spawn()
            .on("start the UAV's radio", &program)?;
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let deadline = Instant::now() + READY;
        while !said().contains("ready\n") {
            let ended = child.try_wait().doing("wait for the UAV's radio")?;
            if ended.is_some() || Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                return Err(LabError::Invalid {
                    what: "the UAV's radio".into(),
                    reason: format!(
                        "it does not start: {}; it needs the kernel's TUN/TAP driver (/dev/net/tun): modprobe tun",
                        tail(&said(), 3)
                    ),
                });
            }
            // It outlives this process, so it writes to a file: there is no pipe whose end could be waited for.
            thread::sleep(Duration::from_millis(10));
        }
        Process::of(child.id() as i32).ok_or_else(|| LabError::HostDown { name: "the UAV's radio".into() })
    }

    /// What the radio has said so far: the number of the serving cell at each change.
    pub fn radio_cells(&self) -> Vec<u16> {
        let said = fs::read_to_string(self.config().state_dir.join(LOG)).unwrap_or_default();
        said.lines().filter_map(|line| line.strip_prefix("cell ")?.parse().ok()).collect()
    }
}

fn program(config: &LabConfig) -> Result<PathBuf, LabError> {
    config.binaries.get(RADIO_PROGRAM).cloned().ok_or_else(|| LabError::Invalid {
        what: "the UAV's radio".into(),
        reason: format!("the lab was brought up without the program {RADIO_PROGRAM}; run `mose lab reset`"),
    })
}
