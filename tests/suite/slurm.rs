//! A real Slurm, with a controller and two nodes on this machine, that makes the shards of a plan: `make test-slurm`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{sys::signal::kill, unistd::Pid};

use crate::{
    registry::{Registry, Storage},
    serving::Running,
    util::{Dir, Signal, ace_dt, free_port, noise, wait_for},
};

/// Slurm, until this goes.
struct Cluster {
    conf: PathBuf,
    dir: PathBuf,
    nodes: Vec<Running>,
    _controller: Running,
    _munge: Running,
}

/// Two drives, one in each node.
const NODES: [&str; 2] = ["tape1", "tape2"];

impl Cluster {
    /// Starts all of it in a directory of its own below `dir`.
    fn start(dir: &Dir) -> Cluster {
        let at = dir.join("slurm");
        fs::create_dir(&at).unwrap();
        dir.write("slurm/key", noise(3, 1024));
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o400);
        fs::set_permissions(at.join("key"), owner_only).unwrap();
        let socket = at.join("munge");
        let mut munged = Command::new("munged");
        munged.args(["--foreground", "--force", "--key-file=key", "--socket=munge", "--pid-file=munge.pid"]);
        munged.args(["--log-file=munge.log", "--seed-file=munge.seed"]).current_dir(&at);
        let munge = Running(
            quiet(&mut munged).spawn().unwrap_or_else(|e| panic!("munged: {e}; `make test-slurm` installs it")),
        );
        wait_for("munged", || socket.exists());
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_string();
        let place = at.display();
        let mut conf = format!(
            "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={}\nSlurmUser=root\nSlurmdUser=root\n\
             AuthType=auth/munge\nAuthInfo=socket={}\nStateSaveLocation={place}/state\nSlurmctldPidFile={place}/ctld.pid\n\
             SlurmctldLogFile={place}/ctld.log\nSlurmdSpoolDir={place}/spool-%n\nSlurmdPidFile={place}/%n.pid\n\
             SlurmdLogFile={place}/%n.log\nProctrackType=proctrack/pgid\nTaskPlugin=task/none\nSelectType=select/cons_tres\n\
             SelectTypeParameters=CR_Core\nGresTypes=tape\nReturnToService=1\nSlurmdTimeout=5\nMessageTimeout=5\n\
             RequeueExit=75\nSchedulerParameters=sched_interval=1,requeue_delay=1\nMailProg=/bin/true\n",
            free_port(),
            socket.display()
        );
        for node in NODES {
            conf.push_str(&format!(
                "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={} CPUs=2 RealMemory=100 Gres=tape:1\n",
                free_port()
            ));
        }
        conf.push_str("PartitionName=tapes Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n");
        dir.write("slurm/slurm.conf", conf);
        dir.write("slurm/gres.conf", "Name=tape Count=1\n");
        fs::create_dir(at.join("state")).unwrap();
        let conf = at.join("slurm.conf");
        let daemon = |program: &str, words: &[&str]| {
            let mut daemon = Command::new(program);
            daemon.arg("-D").args(words).env("SLURM_CONF", &conf);
            Running(
                quiet(&mut daemon).spawn().unwrap_or_else(|e| panic!("{program}: {e}; `make test-slurm` installs it")),
            )
        };
        let controller = daemon("slurmctld", &[]);
        let nodes = NODES.iter().map(|node| daemon("slurmd", &["-N", node])).collect();
        let cluster = Cluster { conf: conf.clone(), dir: at, nodes, _controller: controller, _munge: munge };
        wait_for("the nodes", || {
            cluster.try_run(dir, "sinfo", &["-h", "-t", "idle", "-o", "%D"]).is_some_and(|out| out.trim() == "2")
        });
        cluster
    }

    fn try_run(&self, dir: &Dir, program: &str, words: &[&str]) -> Option<String> {
        let mut command = Command::new(program);
        command.args(words).current_dir(&**dir).env_clear().env("SLURM_CONF", &self.conf);
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", &**dir);
        let output = command.output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn run(&self, dir: &Dir, program: &str, words: &[&str]) -> String {
        self.try_run(dir, program, words).unwrap_or_else(|| panic!("{program} {words:?}; see {:?}", self.dir))
    }

    /// Takes away the power of a node: all its processes end at once.
    fn power_off(&self, n: usize) {
        // Its daemons first: nobody is left who could tell the controller how a job ended.
        let log = self.dir.join(format!("{}.log", NODES[n]));
        let is_daemon = |pid: &Pid| {
            let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target == log)
        };
        let marks = [format!("SLURM_CONF={}", self.conf.display()), format!("SLURMD_NODENAME={}", NODES[n])];
        let is_job = |pid: &Pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let is_set = |mark: &String| environment.split(|byte| *byte == 0).any(|known| known == mark.as_bytes());
            marks.iter().all(is_set)
        };
        for is_one in [&is_daemon as &dyn Fn(&Pid) -> bool, &is_job] {
            processes().iter().filter(|pid| is_one(pid)).for_each(|pid| {
                let _ = kill(*pid, Signal::SIGKILL);
            });
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.nodes.len()).for_each(|n| self.power_off(n));
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// Every process.
fn processes() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw).collect()
}

/// A registry with twelve images of 24 layers of 2 MB, of which some are shared.
fn served() -> (Dir, Dir, Registry) {
    let (dir, storage) = (Dir::new(), Dir::in_memory());
    fs::create_dir_all(storage.join("storage")).unwrap();
    let stored = Storage::new(&storage.join("storage"));
    let mut sources = String::new();
    for image in 0..12_u64 {
        let layer = |n: u64| noise(if n < 8 { image / 4 * 100 + n } else { 1000 + image * 100 + n } + 1, 2_000_000);
        let layers: Vec<Vec<u8>> = (0..24).map(layer).collect();
        stored.image(&format!("team/app{image}"), "v1", &layers);
        sources.push_str(&format!("reg.example.com/team/app{image}:v1\n"));
    }
    let registry = Registry::start(&storage.join("storage"));
    // One request at a time: that a node is stopped in the middle takes a middle.
    registry.configure(&dir, "http", 1);
    dir.write("sources.list", sources);
    (dir, storage, registry)
}

/// The file that begins with `#!/bin/sh` and has this name in the page on shards, for the drives of this test.
fn script(name: &str, drives: &Path) -> String {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/man/ace-dt-shards.7")).unwrap();
    let begin = format!("#!/bin/sh\n# {name}\n");
    let text = &page[page.find(&begin).unwrap_or_else(|| panic!("the page has no {name}"))..];
    let text = text.split(".Ed\n").next().unwrap().replace("\\e", "\\");
    let node = format!("{}/'\"$SLURMD_NODENAME\"'", drives.display());
    let text = text.replace("/var/lib/ace-dt", &node);
    let text = text.replace("/dev/nst0", &format!("'{node}/week-{{shard}}.tar'"));
    text.replace("exec ace-dt", &format!("exec {}", env!("CARGO_BIN_EXE_ace-dt")))
}

/// Four shards on two nodes, of which one is stopped in the middle: all archives are those that were made one after the
/// other, and the merged report is whole. Then again: no archive is made a second time.
#[test]
#[ignore = "needs Slurm: make test-slurm"]
fn slurm_makes_shards_and_a_node_fails() {
    let (dir, _storage, _registry) = served();
    ace_dt(&dir, &["mirror", "plan", "-q", "--shards", "4", "-o", "week.plan", "sources.list"]).ok();
    for n in 1..=4 {
        let shard = format!("{n}/4");
        ace_dt(&dir, &["mirror", "archive", "-q", "--plan", "week.plan", "--shard", &shard, "one-{shard}.tar"]).ok();
    }
    let drives = dir.join("drives");
    NODES.iter().for_each(|node| fs::create_dir_all(drives.join(node)).unwrap());
    let cluster = Cluster::start(&dir);
    dir.write("shard.sh", script("shard.sh", &drives));
    dir.write("merge.sh", script("merge.sh", &drives));
    let array = cluster.run(&dir, "sbatch", &["--parsable", "shard.sh"]).trim().to_string();
    let merge = cluster.run(&dir, "sbatch", &["--parsable", &format!("--dependency=afterok:{array}"), "merge.sh"]);
    let merge = merge.trim().to_string();
    let checkpoint_on =
        |node: &str| (1..=4).map(|n| drives.join(node).join(format!("week-{n}.checkpoint"))).find(|path| path.exists());
    let records = |path: &Path| fs::read_to_string(path).unwrap_or_default().lines().count();
    wait_for("the second node in the middle of a shard", || {
        checkpoint_on("tape2").is_some_and(|path| records(&path) > 20)
    });
    let broken = checkpoint_on("tape2").unwrap();
    cluster.power_off(1);
    let (held, number) = (records(&broken), broken.file_stem().unwrap().to_str().unwrap()[5..].to_string());
    let whole = fs::metadata(dir.join(format!("one-{number}.tar"))).unwrap().len();
    let there = fs::metadata(broken.with_extension("tar")).unwrap().len();
    assert!(there < whole, "the node was stopped too late: {there} of {whole} bytes are there");
    println!("tape2 was stopped in shard {number}, with {held} blobs and {there} of {whole} bytes on its drive");
    let begun = Instant::now();
    let state = |job: &str| cluster.try_run(&dir, "scontrol", &["-o", "show", "job", job]).unwrap_or_default();
    while !state(&merge).contains("JobState=COMPLETED") {
        assert!(begun.elapsed() < Duration::from_secs(110), "{}", state(&array));
        // Slurm puts it off for two minutes.
        if let Some(waiting) = state(&array).lines().find(|line| line.contains("Reason=BeginTime")) {
            let id = waiting.split([' ', '=']).nth(1).unwrap().to_string();
            cluster.run(&dir, "scontrol", &["update", &format!("JobId={id}"), "StartTime=now"]);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(state(&array).contains("Restarts=1"), "{}", state(&array));
    for n in 1..=4 {
        let name = format!("week-{n}.tar");
        let copies: Vec<Vec<u8>> =
            NODES.iter().filter_map(|node| fs::read(drives.join(node).join(&name)).ok()).collect();
        assert!(copies.contains(&dir.read(&format!("one-{n}.tar"))), "shard {n} is not what it is elsewhere");
    }
    let merged: Vec<serde_json::Value> = serde_json::from_slice(&dir.read("week.json")).unwrap();
    let archived =
        merged.iter().filter(|record| record["outcome"] == "archived" && record["source"].is_string()).count();
    assert_eq!((archived, merged.len()), (12, 16));
    println!(
        "four shards on two nodes, one stopped: identical to those made one after the other, and {archived} of 12 sources in the merged report"
    );
}
