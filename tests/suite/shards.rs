//! `mirror plan` and what goes by a plan: archives of shards, their reports, and all of them read as one.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::{
    registry::{Registry, Storage, configure, golden},
    serving::Serving,
    util::{Dir, Outcome, ace_dt, finish, noise, tool},
};

/// The golden images in a registry, and their list `s`.
fn served() -> (Dir, Storage, Registry) {
    let dir = Dir::new();
    fs::create_dir_all(dir.join("storage")).unwrap();
    let storage = Storage::golden(&dir.join("storage"));
    let registry = Registry::start(&dir.join("storage"));
    registry.configure(&dir, "http", 25);
    fs::copy(golden().join("sources.list"), dir.join("s")).unwrap();
    (dir, storage, registry)
}

/// Makes the plan `p` of three shards, with referrers.
fn planned(dir: &Dir) -> Value {
    ace_dt(dir, &["mirror", "plan", "-q", "-r", "--shards", "3", "-o", "p", "s"]).ok();
    serde_json::from_str(&dir.text("p")).unwrap()
}

/// Archives shard `n` of three to `NAMEn.tar`, with a checkpoint and a report.
fn archive(dir: &Dir, name: &str, n: usize, words: &[&str]) -> Outcome {
    let shard = format!("{n}/3");
    let (tar, checkpoint) = (format!("{name}{{shard}}.tar"), format!("{name}{{shard}}.checkpoint"));
    let report = format!("{name}{{shard}}.json");
    let mut all = vec!["mirror", "archive", "--no-term", "--plan", "p", "--shard", &shard];
    all.extend(["--checkpoint", &checkpoint, "--report", &report, &tar]);
    all.extend(words);
    ace_dt(dir, &all)
}

fn rows(outcome: &Outcome) -> BTreeSet<String> {
    outcome.text().lines().map(String::from).collect()
}

/// The sources of shards, put together, are those of the whole list, and whatever reads archives takes the shards as one.
#[test]
fn shards_are_one_list() {
    let (dir, _storage, registry) = served();
    ace_dt(&dir, &["mirror", "archive", "-q", "-r", "s", "all.tar"]).ok();
    let plan = planned(&dir);
    assert_eq!(plan["shards"].as_array().unwrap().len(), 3);
    // Its root is that of the archive of all.
    let root = plan["root"].as_str().unwrap();
    ace_dt(&dir, &["mirror", "verify", "-q", "--root", root, "all.tar"]).ok();
    for n in 1..=3 {
        archive(&dir, "x", n, &[]).ok();
        let figures = &plan["shards"][n - 1];
        assert_eq!(fs::metadata(dir.join(format!("x{n}.tar"))).unwrap().len(), figures["size"].as_u64().unwrap());
        let root = figures["root"].as_str().unwrap();
        ace_dt(&dir, &["mirror", "verify", "-q", "--root", root, &format!("x{n}.tar")]).ok();
    }
    let shards = ["x2.tar", "x1.tar", "x3.tar"];
    let with = |words: &[&'static str], last: &[&'static str]| -> Vec<&'static str> {
        [words, &["--plan", "p"], &shards, last].concat()
    };
    ace_dt(&dir, &with(&["mirror", "verify", "-q"], &[])).ok();
    let listed = |words: &[&str]| rows(&ace_dt(&dir, words).ok());
    let all = listed(&["mirror", "list", "-o", "csv", "all.tar"]);
    assert_eq!(listed(&with(&["mirror", "list", "-o", "csv"], &[])), all);

    // What is delivered is what the archive of all would have delivered.
    let high = Dir::in_memory();
    fs::create_dir_all(high.join("storage")).unwrap();
    let other = Registry::start(&high.join("storage"));
    configure(&dir, &format!("http://127.0.0.1:{}", other.port), 25);
    ace_dt(&dir, &with(&["mirror", "deserialize", "-q"], &["reg.example.com/mirror/week:1"])).ok();
    let client = ureq::get(format!("http://127.0.0.1:{}/v2/mirror/week/manifests/1", other.port));
    let reply = client.header("Accept", "application/vnd.oci.image.index.v1+json").call().unwrap();
    assert_eq!(reply.headers()["docker-content-digest"], root);
    let stored = Storage::new(&high.join("storage"));
    ace_dt(&dir, &with(&["mirror", "unarchive", "-q", "-r"], &["nest=reg.example.com/shards"])).ok();
    ace_dt(&dir, &["mirror", "unarchive", "-q", "-r", "all.tar", "nest=reg.example.com/all"]).ok();
    let held = stored.held();
    // The index at a tag of referrers depends on which of them came first.
    let of = |prefix: &str| -> Vec<(String, String)> {
        let mine = held.iter().filter_map(|(name, held)| {
            let what = format!("{:?} {:?} {:?}", held.tags, held.referrers, held.manifests);
            Some((name.strip_prefix(prefix)?.into(), what))
        });
        mine.collect()
    };
    let (one, other_way) = (of("shards/"), of("all/"));
    assert!(!one.is_empty());
    assert_eq!(one, other_way);
    // Where each goes is the plan's to say, without an archive being read.
    let check = |words: &[&str]| rows(&ace_dt(&dir, words).ok());
    let mapper = "nest=reg.example.com/all";
    assert_eq!(
        check(&with(&["mirror", "unarchive", "--check"], &["nest=reg.example.com/all"])),
        check(&["mirror", "unarchive", "--check", "all.tar", mapper])
    );
    drop(registry);

    let serving = Serving::start(&dir, &["--plan", "p", "x1.tar", "x2.tar", "x3.tar"]);
    let reply = ureq::get(format!("http://{}/v2/p/manifests/latest", serving.host)).call().unwrap();
    assert_eq!(reply.headers()["docker-content-digest"], root);
}

/// What is not the set of a plan is refused before anything is sent.
#[test]
fn what_is_no_set_is_refused() {
    let (dir, _storage, _registry) = served();
    planned(&dir);
    ace_dt(&dir, &["mirror", "archive", "-q", "-r", "s", "all.tar"]).ok();
    (1..=3).for_each(|n| drop(archive(&dir, "x", n, &[]).ok()));
    for (archives, why) in [
        (&["x1.tar", "x3.tar"][..], "shard 2 of 3 of the plan is missing"),
        (&["x1.tar"][..], "shards 2, 3 of 3 of the plan are missing"),
        (&["x1.tar", "x2.tar", "x3.tar", "all.tar"][..], "is none of the shards of the plan"),
        (&["x1.tar", "x2.tar", "x3.tar", "x2.tar"][..], "shard 2 of the plan is there twice"),
    ] {
        for command in ["verify", "list", "deserialize", "unarchive"] {
            let last: &[&str] = match command {
                "deserialize" => &["reg.example.com/never/there:1"],
                "unarchive" => &["nest=reg.example.com/never"],
                _ => &[],
            };
            let outcome = ace_dt(&dir, &[&["mirror", command, "-q", "--plan", "p"], archives, last].concat());
            assert_eq!(outcome.status, 1, "{command}");
            assert!(format!("{}{}", outcome.err, outcome.text()).contains(why), "{command}: {}", outcome.err);
        }
        let words = [&["util", "serve", "-q", "--address", "127.0.0.1:0", "--plan", "p"], archives].concat();
        ace_dt(&dir, &words).fails(1, &[why]);
    }
    assert!(!dir.join("storage/docker/registry/v2/repositories/never").exists());
    // From a pipe it is found out at the end: no tag is set.
    let pipe = fs::read(dir.join("x1.tar")).unwrap();
    let words = ["mirror", "deserialize", "-q", "--plan", "p", "-", "reg.example.com/partly/there:1"];
    let outcome = crate::util::ace_dt_with(&dir, &words, &pipe);
    assert_eq!(outcome.status, 1);
    assert!(outcome.err.contains("shards 2, 3 of 3 of the plan are missing"), "{}", outcome.err);
    assert!(!dir.join("storage/docker/registry/v2/repositories/partly/there/_manifests/tags/1").exists());
    for (content, why) in [
        ("{}", "it is no plan"),
        (&dir.text("p").replace("\"aceDtPlan\": 1", "\"aceDtPlan\": 2"), "version 2"),
        (&dir.text("p").replacen("gamma", "gammb", 2), "was changed, or is damaged"),
    ] {
        dir.write("q", content);
        ace_dt(&dir, &["mirror", "list", "--plan", "q", "x1.tar"]).fails(2, &["reading the plan \"q\"", why]);
    }
}

/// A plan pins what tags point to, and what refers to what: whatever happens in the registry, every host makes the same.
#[test]
fn a_plan_is_what_all_hosts_share() {
    let (dir, storage, registry) = served();
    let plan = planned(&dir);
    (1..=3).for_each(|n| drop(archive(&dir, "x", n, &[]).ok()));
    let sources: Vec<&Value> = plan["sources"].as_array().unwrap().iter().collect();
    // A tag moves, and something refers to what is planned.
    let (_, source) = sources[0]["source"].as_str().unwrap().split_once('/').unwrap();
    let (repository, tag) = source.rsplit_once(':').unwrap();
    storage.image(repository, tag, &[noise(1, 1000)]);
    drop(registry);
    let registry = Registry::start(&dir.join("storage"));
    registry.configure(&dir, "http", 25);
    (1..=3).for_each(|n| drop(archive(&dir, "y", n, &["--compression", "none"]).ok()));
    for n in 1..=3 {
        assert!(dir.read(&format!("x{n}.tar")) == dir.read(&format!("y{n}.tar")), "shard {n} differs");
    }
    // What is planned and gone is an error that names it, and not for a scheduler to try again.
    let digest = sources[0]["digest"].as_str().unwrap().replacen(':', "/", 1);
    let gone =
        dir.join("storage/docker/registry/v2/repositories").join(repository).join("_manifests/revisions").join(&digest);
    fs::remove_dir_all(gone).unwrap();
    let shard = sources[0]["shard"].as_u64().unwrap() as usize;
    let outcome = archive(&dir, "z", shard, &[]);
    assert_eq!(outcome.status, 1, "{}", outcome.err);
    assert!(outcome.err.contains(sources[0]["digest"].as_str().unwrap()), "{}", outcome.err);
    // A registry that is away is.
    drop(registry);
    let outcome = archive(&dir, "z", shard, &["--force", "--retries", "0"]);
    assert_eq!(outcome.status, 75, "{}", outcome.err);
}

/// A shard that is whole is left as it is; one that is not goes on.
#[test]
fn a_shard_is_made_once() {
    let (dir, _storage, _registry) = served();
    let plan = planned(&dir);
    for compression in ["none", "zstd"] {
        let words = ["--compression", compression];
        let fresh = ["--compression", compression, "--force"];
        archive(&dir, "x", 1, &fresh).ok();
        let (before, whole) = (fs::metadata(dir.join("x1.tar")).unwrap().modified().unwrap(), dir.read("x1.tar"));
        let again = archive(&dir, "x", 1, &words).ok();
        assert!(again.err.contains("whole, and nothing was written"), "{}", again.err);
        assert_eq!(fs::metadata(dir.join("x1.tar")).unwrap().modified().unwrap(), before);
        // Cut off: the checkpoint speaks of more than is there.
        fs::write(dir.join("x1.tar"), &whole[..whole.len() * 2 / 3]).unwrap();
        archive(&dir, "x", 1, &["--compression", compression, "--resume"]).ok();
        assert!(dir.read("x1.tar") == whole, "{compression}");
        // Another archive under a checkpoint that is complete is not taken for it.
        fs::write(dir.join("x1.tar"), noise(7, whole.len())).unwrap();
        let resume = ["--compression", compression, "--resume"];
        archive(&dir, "x", 1, &resume).fails(1, &["shard 1 of 3", "is not the beginning of the archive"]);
    }
    // The number is a scheduler's to say.
    let scheduled = |set: &[(&str, &str)]| {
        let words = ["mirror", "archive", "-q", "--plan", "p", "--dry-run", "-o", "json", "y{shard}.tar"];
        finish(tool(&dir, &words).envs(set.iter().copied()).spawn().unwrap())
    };
    let slurm = |id, min, count| {
        [("SLURM_ARRAY_TASK_ID", id), ("SLURM_ARRAY_TASK_MIN", min), ("SLURM_ARRAY_TASK_COUNT", count)]
    };
    for (n, set) in
        [(2, &slurm("2", "1", "3")[..]), (3, &slurm("2", "0", "3")[..]), (1, &[("JOB_COMPLETION_INDEX", "0")][..])]
    {
        let told: Value = serde_json::from_slice(&scheduled(set).ok().out).unwrap();
        assert_eq!(told["root"], plan["shards"][n - 1]["root"]);
    }
    for (set, why) in [
        (&slurm("2", "1", "4")[..], "shard 2 of 4, but the plan has 3"),
        (&[("JOB_COMPLETION_INDEX", "3")][..], "means shard 4, but the plan has 3"),
        (&[("JOB_COMPLETION_INDEX", "0"), ("SLURM_ARRAY_TASK_ID", "1")][..], "both"),
        (&[][..], "--plan needs the number of a shard"),
    ] {
        scheduled(set).fails(2, &[why]);
    }
    let words = ["mirror", "archive", "--plan", "p", "--shard", "1/3", "-r", "a.tar"];
    ace_dt(&dir, &words).fails(2, &["--recursive is said when the plan is made"]);
    ace_dt(&dir, &["mirror", "archive", "--plan", "p", "--shard", "1/3", "s", "a.tar"])
        .fails(2, &["one operand too many"]);
    ace_dt(&dir, &["mirror", "archive", "--shard", "1/3", "s", "a.tar"]).fails(2, &["give --plan, too"]);
    ace_dt(&dir, &["mirror", "archive", "--plan", "p", "--shard", "0/3", "a.tar"])
        .fails(2, &["the first of four shards is 1/4"]);
}

/// A shard that is whole stays so, and is told so, whatever became of the registry; one that is begun again is not.
#[test]
fn a_whole_shard_needs_no_registry() {
    let (dir, _storage, registry) = served();
    planned(&dir);
    archive(&dir, "x", 1, &[]).ok();
    archive(&dir, "z", 1, &["--compression", "zstd"]).ok();
    let (plain, compressed) = (dir.read("x1.json"), dir.read("z1.json"));
    drop(registry);
    archive(&dir, "x", 1, &["--resume"]).ok();
    assert_eq!(dir.read("x1.json"), plain);
    // A compressed one is compared with what the registry has; what was told of it before stays.
    let outcome = archive(&dir, "z", 1, &["--compression", "zstd", "--retries", "0"]);
    assert_eq!((outcome.status, dir.read("z1.json")), (75, compressed));
    // One that was cut off afterwards is not called whole, and not written over.
    let whole = dir.read("x1.tar");
    fs::write(dir.join("x1.tar"), &whole[..whole.len() / 2]).unwrap();
    archive(&dir, "x", 1, &[]).fails(1, &["--resume goes on with it"]);
}

/// What is in no shard that has arrived is listed, and so is a shard of which nobody can say what is in it.
#[test]
fn what_is_lost_is_listed() {
    let (dir, _storage, _registry) = served();
    let plan = planned(&dir);
    (1..=3).for_each(|n| drop(archive(&dir, "x", n, &[]).ok()));
    let shard = plan["sources"][0]["shard"].as_u64().unwrap();
    let of_shard = plan["sources"].as_array().unwrap().iter().filter(|source| source["shard"] == shard);
    let mut named: Vec<&str> = of_shard.map(|source| source["digest"].as_str().unwrap()).collect();
    named.sort_unstable();
    let others: Vec<String> = (1..=3).filter(|n| *n != shard).map(|n| format!("x{n}.tar")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let listed = |archives: &[&str]| {
        let words = ["mirror", "verify", "-q", "--plan", "p", "--wanted", "w"];
        let outcome = ace_dt(&dir, &[&words, archives].concat());
        assert_eq!(outcome.status, 1);
        let text = dir.text("w");
        let mut digests: Vec<String> =
            text.lines().filter_map(|line| Some(line.split_once('@')?.1.split(',').next()?.to_string())).collect();
        digests.sort_unstable();
        (outcome, digests)
    };
    let (outcome, digests) = listed(&others);
    assert_eq!(digests, named);
    assert!(outcome.text().trim_end().ends_with("of the plan is missing"), "{}", outcome.text());
    // Its list of sources is damaged: all of them are wanted.
    let name = format!("x{shard}.tar");
    let mut bytes = dir.read(&name);
    let at = bytes.windows(20).position(|window| window == b"vnd.act3-ace.data.ga").unwrap();
    bytes[at] = b'X';
    fs::write(dir.join(&name), bytes).unwrap();
    assert_eq!(listed(&[&others[..], &[&name]].concat()).1, named);
    // Without the plan the first archive says what is delivered, and what is left is told.
    let words = ["mirror", "deserialize", "-q", others[0], others[1], "reg.example.com/some/of:1"];
    let outcome = ace_dt(&dir, &words).ok();
    assert!(outcome.err.contains("that the first archive does not list"), "{}", outcome.err);
    // The root of the plan is that of all.
    archive(&dir, "x", shard as usize, &["--force"]).ok();
    let root = plan["root"].as_str().unwrap();
    let all = ["mirror", "verify", "-q", "--plan", "p", "x1.tar", "x2.tar", "x3.tar", "--root"];
    let outcome = ace_dt(&dir, &[&all[..], &[root]].concat()).ok();
    assert!(outcome.text().contains(&format!("all shards of the plan are here; its root is {root}")));
    assert_eq!(ace_dt(&dir, &[&all[..], &[named[0]]].concat()).status, 1);
}

/// Lists that name a source twice, and increments in which nothing has changed, are made as they were planned.
#[test]
fn what_is_planned_can_be_made() {
    let (dir, _storage, _registry) = served();
    let alpha = "reg.example.com/gold/library/alpha:v1";
    let archived = |plan: &str, count: usize, name: &str, words: &[&str]| {
        for n in 1..=count {
            let (shard, tar) = (format!("{n}/{count}"), format!("{name}{n}.tar"));
            let all = ["mirror", "archive", "-q", "--force", "--plan", plan, "--shard", &shard, &tar];
            ace_dt(&dir, &[&all[..], words].concat()).ok();
        }
    };
    dir.write("twice", format!("{alpha},a=1\n{alpha},b=2\nreg.example.com/gold/library/beta:1.2\n"));
    for platforms in [&[][..], &["-p", "linux/amd64,linux/arm64"]] {
        let plan = ["mirror", "plan", "-q", "--shards", "2", "-o", "t", "twice"];
        ace_dt(&dir, &[&plan[..], platforms].concat()).ok();
        archived("t", 2, "t", &[]);
        let archives: Vec<&str> = ["t1.tar", "t2.tar"].into_iter().filter(|name| dir.join(name).exists()).collect();
        ace_dt(&dir, &[&["mirror", "verify", "-q", "--plan", "t"], &archives[..]].concat()).ok();
        archives.iter().for_each(|name| fs::remove_file(dir.join(name)).unwrap());
    }
    // Nothing has changed since: nothing but the end of an archive is left.
    ace_dt(&dir, &["mirror", "plan", "-q", "-o", "one", "s"]).ok();
    archived("one", 1, "one", &["--checkpoint", "c"]);
    ace_dt(&dir, &["mirror", "plan", "-q", "--existing-from-checkpoint", "c", "-o", "next", "s"]).ok();
    archived("next", 1, "next", &[]);
    ace_dt(&dir, &["mirror", "verify", "-q", "--plan", "next", "--existing", "one1.tar", "next1.tar"]).ok();
    // An index that was moved into the annotation is still one of which something is left out.
    let sparse = ["mirror", "archive", "-q", "--index-fallback", "-p", "linux/amd64", "--sparse-index", "s", "f.tar"];
    ace_dt(&dir, &sparse).ok();
    ace_dt(&dir, &["mirror", "verify", "-q", "f.tar"]).ok();
}

/// A plan or a report that was changed by hand is none.
#[test]
fn what_was_changed_is_refused() {
    let (dir, _storage, _registry) = served();
    let plan = planned(&dir);
    (1..=3).for_each(|n| drop(archive(&dir, "x", n, &[]).ok()));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut plan = plan.clone();
        change(&mut plan);
        dir.write("q", plan.to_string());
        ace_dt(&dir, &["mirror", "list", "-q", "--plan", "q", "x1.tar", "x2.tar", "x3.tar"])
    };
    changed(&|_| ()).ok();
    let zeros = format!("sha256:{}", "0".repeat(64));
    let changes: [&dyn Fn(&mut Value); 5] = [
        &|plan| plan["sources"][0]["digest"] = zeros.as_str().into(),
        &|plan| drop(plan["sources"].as_array_mut().unwrap().pop()),
        &|plan| plan["sources"][0]["picks"] = 0.into(),
        &|plan| plan["sources"][0]["shard"] = 4.into(),
        &|plan| plan["shards"][0]["root"] = Value::Null,
    ];
    for change in changes {
        changed(change).fails(2, &["reading the plan \"q\""]);
    }
    let merge = |text: String| {
        dir.write("y1.json", text);
        ace_dt(&dir, &["mirror", "report", "merge", "y1.json", "x2.json", "x3.json"])
    };
    let report = dir.text("x1.json");
    merge(report.clone()).ok();
    merge(String::new()).fails(1, &["killed before it could tell"]);
    merge(report.replace("\"shards\": 3", "\"shards\": 4294967295")).fails(1, &["it is of shard 1 of 4294967295"]);
    merge(report.replace("\"shard\": 1", "\"shard\": 0")).fails(1, &["it is of shard 0 of 3"]);
    let mut records: Vec<Value> = serde_json::from_str(&report).unwrap();
    records.pop();
    merge(serde_json::to_string(&records).unwrap()).fails(1, &["and it tells of"]);
    // The beginning of a report, which a run that was killed has left, is written over.
    dir.write("x1.json", &report[..report.len() / 2]);
    archive(&dir, "x", 1, &[]).ok();
    assert_eq!(dir.text("x1.json"), report);
}

/// Reports of all shards make one; whatever is missing or foreign is an error, and nothing is written.
#[test]
fn reports_are_merged() {
    let (dir, _storage, _registry) = served();
    let plan = planned(&dir);
    (1..=3).for_each(|n| drop(archive(&dir, "x", n, &[]).ok()));
    let merge = |words: &[&str]| ace_dt(&dir, &[&["mirror", "report", "merge"], words].concat());
    merge(&["-o", "all.json", "x3.json", "x1.json", "x2.json"]).ok();
    let merged: Vec<Value> = serde_json::from_slice(&dir.read("all.json")).unwrap();
    let shards: Vec<u64> = merged.iter().filter_map(|record| record["shard"].as_u64()).collect();
    assert_eq!(shards, [1, 2, 3]);
    let sources: BTreeSet<&str> = merged.iter().filter_map(|record| record["source"].as_str()).collect();
    let planned: BTreeSet<&str> =
        plan["sources"].as_array().unwrap().iter().map(|source| source["source"].as_str().unwrap()).collect();
    assert_eq!(sources, planned);
    assert_eq!(merge(&["x1.json", "x2.json", "x3.json"]).ok().out, dir.read("all.json"));
    for (words, why) in [
        (&["x1.json", "x3.json"][..], "of 3 shards, 2 is missing"),
        (&["x1.json", "x3.json", "x2.json", "x2.json"][..], "shard 2 is there twice"),
        (&["all.json", "x1.json"][..], "merged already"),
        (&["p"][..], "reading the report \"p\""),
    ] {
        merge(words).fails(1, &[why]);
    }
    ace_dt(&dir, &["mirror", "plan", "-q", "--shards", "3", "-o", "p", "s"]).ok();
    archive(&dir, "y", 2, &[]).ok();
    merge(&["x1.json", "y2.json", "x3.json"]).fails(1, &["is of the plan"]);
    // A shard that failed: the report is written, and says so.
    ace_dt(&dir, &["mirror", "plan", "-q", "-r", "--shards", "3", "-o", "p", "s"]).ok();
    let report = dir.text("x2.json").replace("archived", "incomplete");
    dir.write("x2.json", report);
    merge(&["-o", "all.json", "x1.json", "x2.json", "x3.json"]).fails(1, &["not whole: shard 2 of 3"]);
    assert!(dir.text("all.json").contains("incomplete"));
}

/// More shards than sources: of those without any no archive is made, and the set is whole without them.
#[test]
fn empty_shards_are_told() {
    let (dir, _storage, _registry) = served();
    dir.write("s", "reg.example.com/gold/library/alpha:v1\n");
    let told =
        ace_dt(&dir, &["mirror", "plan", "--no-term", "--shards", "3", "--volume-size", "1k", "-o", "p", "s"]).ok();
    assert!(told.text().starts_with("SHARD  SOURCES"), "{}", told.text());
    for n in 1..=3 {
        archive(&dir, "x", n, &[]).ok();
    }
    let made: Vec<usize> = (1..=3).filter(|n| dir.join(format!("x{n}.tar")).exists()).collect();
    assert_eq!(made.len(), 1);
    ace_dt(&dir, &["mirror", "verify", "-q", "--plan", "p", &format!("x{}.tar", made[0])]).ok();
    ace_dt(&dir, &["mirror", "report", "merge", "-o", "all.json", "x1.json", "x2.json", "x3.json"]).ok();
}

/// The blocks of the page on shards.
fn page_blocks() -> Vec<String> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/man/ace-dt-shards.7")).unwrap();
    let blocks = page.split(".Bd -literal -offset indent\n").skip(1).map(|block| block.split(".Ed\n").next().unwrap());
    blocks.map(|block| block.replace("\\e", "\\")).collect()
}

/// The unit of the page is well-formed, and its instances make the shards.
#[test]
fn the_unit_of_the_page_makes_shards() {
    let (dir, _storage, _registry) = served();
    ace_dt(&dir, &["mirror", "plan", "-q", "--shards", "2", "-o", "week.plan", "s"]).ok();
    assert_eq!(crate::clients::units_of(&dir, "ace-dt-shards.7"), ["ace-dt-shard@.service"]);
    let unit = dir.text("ace-dt-shard@.service");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    for n in ["1", "2"] {
        let command = command.replace("%i", n).replace("/dev/tape/", "");
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        ace_dt(&dir, &words).ok();
    }
    ace_dt(&dir, &["mirror", "verify", "-q", "--plan", "week.plan", "shard-1", "shard-2"]).ok();
    assert!(unit.contains("RestartForceExitStatus=75\n"));
}

/// The Indexed Job of the page: what its pods run, in the environment that Kubernetes gives them.
#[test]
fn the_job_of_the_page_makes_shards() {
    let block = page_blocks().into_iter().find(|block| block.starts_with("apiVersion: batch/v1")).unwrap();
    let job: Value = serde_yaml::from_str(&block).unwrap();
    let spec = &job["spec"];
    assert_eq!((spec["completionMode"].as_str(), spec["backoffLimitPerIndex"].as_u64()), (Some("Indexed"), Some(5)));
    assert_eq!(spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"], serde_json::json!([1, 2]));
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Never");
    let shards = spec["completions"].as_u64().unwrap();
    let container = &spec["template"]["spec"]["containers"][0];
    let words = |key: &str| -> Vec<String> {
        container[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap().into()).collect()
    };
    let all = [words("command"), words("args")].concat();
    let (dir, _storage, registry) = served();
    fs::create_dir(dir.join("drive")).unwrap();
    ace_dt(&dir, &["mirror", "plan", "-q", "--shards", &shards.to_string(), "-o", "week.plan", "s"]).ok();
    let all: Vec<&str> = all[1..].iter().map(String::as_str).collect();
    let pod = |index: u64| finish(tool(&dir, &all).env("JOB_COMPLETION_INDEX", index.to_string()).spawn().unwrap());
    (0..shards).for_each(|index| drop(pod(index).ok()));
    let archives: Vec<String> = (1..=shards).map(|n| format!("drive/week-{n}.tar")).collect();
    // A shard may have no sources.
    let archives: Vec<&str> = archives.iter().map(String::as_str).filter(|path| dir.join(path).exists()).collect();
    ace_dt(&dir, &[&["mirror", "verify", "-q", "--plan", "week.plan"], &archives[..]].concat()).ok();
    // What the policy goes by: 2 for what is wrong, and 75 for a registry that is away.
    assert_eq!(pod(shards).status, 2);
    drop(registry);
    let number: u64 = archives[0].split(['-', '.']).nth(1).unwrap().parse().unwrap();
    fs::remove_file(dir.join(format!("drive/week-{number}.checkpoint"))).unwrap();
    fs::remove_file(dir.join(archives[0])).unwrap();
    let impatient = [&all[..], &["--retries", "0"]].concat();
    let pod = tool(&dir, &impatient).env("JOB_COMPLETION_INDEX", (number - 1).to_string()).spawn();
    let outcome = finish(pod.unwrap());
    assert_eq!(outcome.status, 75, "{}", outcome.err);
}
