//! What a program can name of the library is a list that only grows on purpose.

use std::path::{Path, PathBuf};

use syn::{Attribute, Item, UseTree, Visibility};

/// One public item on a line, `KIND PATH`. `LOCKKEEPER_BLESS=1` writes it anew.
const GOLDEN: &str = "tests/suite/house/surface.txt";

/// The most that somebody should have to know. Methods and fields belong to their type. (65, until read models became descriptions.)
const MOST: usize = 68;

#[test]
fn the_public_items_are_those_that_are_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect(&root.join("src/lib.rs"), &root.join("src"), "lockkeeper", &mut found);
    found.sort();
    let told: String = found.iter().map(|item| format!("{item}\n")).collect();
    if std::env::var_os("LOCKKEEPER_BLESS").is_some() {
        std::fs::write(root.join(GOLDEN), &told).expect("the list is written");
    }
    let golden = std::fs::read_to_string(root.join(GOLDEN)).expect("the list");
    assert_eq!(told, golden, "the surface has changed: LOCKKEEPER_BLESS=1 takes it as it is now");
    assert!(found.len() > 30 && found.len() <= MOST, "{} public items, and {MOST} are enough", found.len());
}

/// The public items of a file and of the public modules below it.
fn collect(file: &Path, folder: &Path, path: &str, found: &mut Vec<String>) {
    let text = std::fs::read_to_string(file).expect("a source");
    for item in syn::parse_file(&text).expect("Rust").items {
        let (kind, vis, name, attributes) = match &item {
            Item::Const(item) => ("const", &item.vis, &item.ident, &item.attrs),
            Item::Enum(item) => ("enum", &item.vis, &item.ident, &item.attrs),
            Item::Fn(item) => ("fn", &item.vis, &item.sig.ident, &item.attrs),
            Item::Static(item) => ("static", &item.vis, &item.ident, &item.attrs),
            Item::Struct(item) => ("struct", &item.vis, &item.ident, &item.attrs),
            Item::Trait(item) => ("trait", &item.vis, &item.ident, &item.attrs),
            Item::Type(item) => ("type", &item.vis, &item.ident, &item.attrs),
            Item::Macro(item) if has(&item.attrs, "macro_export") => {
                found.extend(item.ident.as_ref().map(|name| format!("macro lockkeeper::{name}!")));
                continue;
            }
            Item::Use(item) if is_public(&item.vis, &item.attrs) => {
                reexported(&item.tree, path, found);
                continue;
            }
            Item::Mod(item) if is_public(&item.vis, &item.attrs) => {
                let name = item.ident.to_string();
                let (file, folder) = source(folder, &name);
                collect(&file, &folder, &format!("{path}::{name}"), found);
                continue;
            }
            _ => continue,
        };
        if is_public(vis, attributes) {
            found.push(format!("{kind} {path}::{name}"));
        }
    }
}

/// The file of a module, and the folder of those below it.
fn source(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let flat = folder.join(format!("{name}.rs"));
    if flat.exists() { (flat, folder.join(name)) } else { (folder.join(name).join("mod.rs"), folder.join(name)) }
}

fn has(attributes: &[Attribute], name: &str) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident(name))
}

/// Public for everybody: neither for tests alone nor hidden from the documentation.
fn is_public(vis: &Visibility, attributes: &[Attribute]) -> bool {
    let kept = |attribute: &Attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let text = list.tokens.to_string();
        list.path.is_ident("cfg") && text.contains("test") && !text.contains("not")
            || list.path.is_ident("doc") && text == "hidden"
    };
    matches!(vis, Visibility::Public(_)) && !attributes.iter().any(kept)
}

fn reexported(tree: &UseTree, path: &str, found: &mut Vec<String>) {
    match tree {
        UseTree::Path(inner) => reexported(&inner.tree, path, found),
        UseTree::Group(group) => group.items.iter().for_each(|inner| reexported(inner, path, found)),
        UseTree::Name(name) => found.push(format!("use {path}::{}", name.ident)),
        UseTree::Rename(name) => found.push(format!("use {path}::{}", name.rename)),
        UseTree::Glob(_) => panic!("{path} re-exports whatever there is: say what"),
    }
}
