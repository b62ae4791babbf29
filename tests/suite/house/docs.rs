//! The guide to a domain of one's own is code that is built and run.

const GUIDE: &str = include_str!("../../../docs/domain.md");

#[test]
fn the_guide_is_the_example_word_for_word() {
    let files = [
        include_str!("../../../examples/counter/Cargo.toml"),
        include_str!("../../../examples/counter/src/lib.rs"),
        include_str!("../../../examples/counter/src/main.rs"),
        include_str!("../../../examples/counter/tests/run.rs"),
    ];
    let blocks: Vec<&str> = GUIDE.split("```").skip(1).step_by(2).collect();
    let code: Vec<&str> =
        blocks.iter().filter_map(|block| block.strip_prefix("rust\n").or(block.strip_prefix("toml\n"))).collect();
    for block in &code {
        assert!(files.iter().any(|file| file.contains(block.trim())), "no file of the example has this:\n{block}");
    }
    let told: usize = code.iter().map(|block| block.lines().filter(|line| !line.is_empty()).count()).sum();
    let there: usize = files.iter().map(|file| file.lines().filter(|line| !line.is_empty()).count()).sum();
    assert_eq!(told, there, "the guide leaves out a part of the example");
}

#[test]
fn every_file_that_the_documentation_links_to_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    let documents = std::fs::read_dir(root.join("docs")).expect("docs").flatten().map(|entry| entry.path());
    let documents = documents.chain([root.join("README.md"), root.join("CONTRIBUTING.md")]);
    for document in documents.filter(|path| path.extension().is_some_and(|end| end == "md")) {
        let text = std::fs::read_to_string(&document).expect("a document");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if link.is_empty() || link.contains("://") {
                continue;
            }
            seen += 1;
            let target = document.parent().expect("a folder").join(link);
            assert!(target.exists(), "{}: there is no {link}", document.display());
        }
    }
    assert!(seen > 20, "hardly any link was seen: {seen}");
}
