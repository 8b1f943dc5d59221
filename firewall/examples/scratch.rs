use aya::{EbpfLoader, TestRun, TestRunOptions, programs::Xdp, maps::{Array, HashMap, LpmTrie, lpm_trie::Key}};
use firewall_common::*;
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let level: u8 = std::env::var("LEVEL").ok().map_or(0, |l| l.parse().unwrap());
    let data = std::fs::read(path).unwrap();
    let mut bpf = EbpfLoader::new().override_global("AYA_LOG_LEVEL", &level, true).load(&data).unwrap();
    let p: &mut Xdp = bpf.program_mut("firewall").unwrap().try_into().unwrap();
    let t = std::time::SystemTime::now();
    if let Err(e) = p.load() { let s = format!("{e:#?}"); println!("{}", &s[s.len().saturating_sub(1500)..]); std::process::exit(1) }
    println!("load {:?}", t.elapsed());
    let info = p.info().unwrap();
    println!("verified {:?} jited {:?} xlated {:?}", info.verified_instruction_count(), info.size_jitted(), info.size_translated());
    let mut frame = vec![0u8; 12];
    frame.extend([8, 0]);
    frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 7, 192, 0, 2, 1]);
    frame.extend([0x10, 0, 0x01, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
    let run = |name: &str, bpf: &mut aya::Ebpf| {
        let p: &mut Xdp = bpf.program_mut("firewall").unwrap().try_into().unwrap();
        let mut best = u64::MAX; let mut v = 0;
        for _ in 0..5 {
            let mut o = TestRunOptions::new();
            o.data_in = Some(&frame);
            o.repeat = 1_000_000;
            let r = p.test_run(o).unwrap();
            best = best.min(r.duration.as_nanos() as u64); v = r.return_value;
        }
        println!("{name}: verdict {v} {best} ns");
    };
    let set = |bpf: &mut aya::Ebpf, tables| {
        let mut c = Config::new(); c.tables = tables;
        Array::<_, Config>::try_from(bpf.map_mut("CONFIG").unwrap()).unwrap().set(0, c, 0).unwrap();
    };
    set(&mut bpf, 0);
    run("clean, all empty", &mut bpf);
    {
        let mut m = HashMap::<_, [u8; 4], Ban>::try_from(bpf.map_mut("BAN4").unwrap()).unwrap();
        m.insert([1, 2, 3, 4], Ban { until_mono_ns: FOREVER, drops: 0 }, 0).unwrap();
    }
    set(&mut bpf, table::BAN4);
    run("clean, hash", &mut bpf);
    {
        let mut m = LpmTrie::<_, [u8; 4], Ban>::try_from(bpf.map_mut("RANGE4").unwrap()).unwrap();
        m.insert(&Key::new(16, [1, 2, 0, 0]), Ban { until_mono_ns: FOREVER, drops: 0 }, 0).unwrap();
    }
    set(&mut bpf, table::BAN4 | table::RANGE4);
    run("clean, hash+range", &mut bpf);
    {
        let mut m = HashMap::<_, [u8; 4], Ban>::try_from(bpf.map_mut("BAN4").unwrap()).unwrap();
        m.insert([192, 0, 2, 7], Ban { until_mono_ns: FOREVER, drops: 0 }, 0).unwrap();
    }
    set(&mut bpf, table::BAN4);
    run("banned forever", &mut bpf);
    {
        let mut m = HashMap::<_, [u8; 4], Ban>::try_from(bpf.map_mut("BAN4").unwrap()).unwrap();
        m.insert([192, 0, 2, 7], Ban { until_mono_ns: FOREVER-1, drops: 0 }, 0).unwrap();
    }
    run("banned until", &mut bpf);
    {
        let m = HashMap::<_, [u8; 4], Ban>::try_from(bpf.map_mut("BAN4").unwrap()).unwrap();
        println!("{:?}", m.get(&[192, 0, 2, 7], 0));
    }
}
