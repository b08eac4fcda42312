//! Files as editors and tools treat them, with time passed in.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What happened, by file name: its text, `unreadable` or `gone`.
fn told(look: &Look) -> Vec<(String, String)> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    look.events
        .iter()
        .map(|event| match event {
            Event::Text(path, text) => (name(path), text.clone()),
            Event::Unreadable(path, _) => (name(path), "unreadable".into()),
            Event::Gone(path) => (name(path), "gone".into()),
        })
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(name, text)| ((*name).into(), (*text).into()))
        .collect()
}

#[test]
fn the_first_look_takes_everything_but_what_is_not_meant() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("sub/deep")).unwrap();
    fs::create_dir(dir.path().join(".git")).unwrap();
    for name in [
        "a.yaml",
        "sub/deep/b.yml",
        ".hidden.yaml",
        "c.yaml~",
        "d.json",
        ".git/e.yaml",
        "#f.yaml",
        ".g.yaml.swp",
    ] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let mut directory = Directory::new(dir.path());
    let look = directory.look(at(0));
    assert_eq!(
        told(&look),
        pairs(&[("a.yaml", "a.yaml"), ("b.yml", "sub/deep/b.yml")])
    );
    assert_eq!(directory.look(at(10)), Look::default());
}

#[test]
fn a_file_is_read_when_it_has_come_to_rest() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, "one").unwrap();
    let mut directory = Directory::new(dir.path());
    directory.look(at(0));

    fs::write(&file, "").unwrap();
    let look = directory.look(at(1_000));
    assert_eq!((told(&look), look.again), (vec![], Some(STILL)));
    fs::write(&file, "two, ha").unwrap();
    assert!(told(&directory.look(at(1_040))).is_empty());
    fs::write(&file, "two, half and whole").unwrap();
    assert!(told(&directory.look(at(1_080))).is_empty());
    assert_eq!(
        told(&directory.look(at(1_130))),
        pairs(&[("a.yaml", "two, half and whole")])
    );

    // One that never rests is read all the same after a while.
    for (step, moment) in (2_000..3_000).step_by(40).enumerate() {
        fs::write(&file, "x".repeat(step + 1)).unwrap();
        assert!(told(&directory.look(at(moment))).is_empty());
    }
    assert_eq!(told(&directory.look(at(3_001))).len(), 1);
}

#[test]
fn a_file_that_is_renamed_over_is_not_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (file, backup) = (dir.path().join("a.yaml"), dir.path().join("a.yaml~"));
    fs::write(&file, "one").unwrap();
    let mut directory = Directory::new(dir.path());
    directory.look(at(0));
    fs::rename(&file, &backup).unwrap();
    let look = directory.look(at(1_000));
    assert_eq!((told(&look), look.again), (vec![], Some(AWAY)));
    fs::write(&file, "two").unwrap();
    directory.look(at(1_100));
    assert_eq!(told(&directory.look(at(1_150))), pairs(&[("a.yaml", "two")]));
    fs::remove_file(&file).unwrap();
    directory.look(at(2_000));
    assert_eq!(told(&directory.look(at(2_250))), pairs(&[("a.yaml", "gone")]));
    assert_eq!(directory.look(at(3_000)), Look::default());
}

#[test]
fn what_cannot_be_read_is_told_and_is_not_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (file, root) = (dir.path().join("a.yaml"), dir.path().join("config"));
    fs::write(&file, [0xff, 0xfe]).unwrap();
    let mut directory = Directory::new(&file);
    assert_eq!(told(&directory.look(at(0))), pairs(&[("a.yaml", "unreadable")]));

    // The one file of a mesh, away for a moment: nothing is taken for deleted, and it is read anew.
    fs::write(&file, "one").unwrap();
    directory.look(at(100));
    assert_eq!(told(&directory.look(at(200))), pairs(&[("a.yaml", "one")]));
    fs::remove_file(&file).unwrap();
    assert_eq!(told(&directory.look(at(300))), pairs(&[("a.yaml", "unreadable")]));
    assert!(told(&directory.look(at(9_000))).is_empty());
    fs::write(&file, "two").unwrap();
    directory.look(at(9_100));
    assert_eq!(told(&directory.look(at(9_200))), pairs(&[("a.yaml", "two")]));

    // A folder that is away keeps its files in force.
    fs::create_dir(&root).unwrap();
    fs::write(root.join("b.yaml"), "b").unwrap();
    let mut directory = Directory::new(&root);
    directory.look(at(0));
    fs::rename(&root, dir.path().join("elsewhere")).unwrap();
    assert_eq!(
        told(&directory.look(at(1_000))),
        pairs(&[("config", "unreadable")])
    );
    assert!(told(&directory.look(at(9_000))).is_empty());
    fs::rename(dir.path().join("elsewhere"), &root).unwrap();
    let back = directory.look(at(10_000));
    assert_eq!(told(&back), pairs(&[("config", "gone")]));
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(told(&directory.look(at(11_000))).is_empty());
}

#[test]
fn what_was_written_by_ourselves_is_not_news() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    let mut directory = Directory::new(dir.path());
    directory.look(at(0));
    fs::write(&file, "one").unwrap();
    directory.wrote(&file, at(1));
    assert_eq!(directory.look(at(1_000)), Look::default());
    fs::remove_file(&file).unwrap();
    directory.wrote(&file, at(1_001));
    assert_eq!(directory.look(at(2_000)), Look::default());
}
