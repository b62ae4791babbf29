//! Which file imports from which, read out of the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};

/// A module, as the names from the crate's root down to it.
pub type Module = Vec<String>;

/// The modules of a crate, and what each of them names of the others. Code that is only for tests is left out.
pub struct Graph {
    pub edges: BTreeMap<Module, BTreeSet<Module>>,
}

impl Graph {
    /// Reads every source file below `root`, which are named relative to it, but for those of other crates.
    pub fn read(root: &Path, files: &[String]) -> Self {
        let mut named = BTreeMap::new();
        for file in files {
            let text = std::fs::read_to_string(root.join(file)).expect("the source is read");
            let mut names = Names { paths: Vec::new(), imports: Vec::new() };
            names.visit_file(&syn::parse_file(&text).expect("the source is Rust"));
            named.insert(module_of(file), names);
        }
        let modules: BTreeSet<Module> = named.keys().cloned().collect();
        let mut aliases: BTreeMap<Module, Module> = BTreeMap::new();
        for (module, names) in &named {
            for path in &names.imports {
                if let (Some(target), Some(last)) = (absolute(module, path, &modules), path.last()) {
                    aliases.insert([module.as_slice(), std::slice::from_ref(last)].concat(), target);
                }
            }
        }
        let mut edges: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
        for (module, names) in &named {
            for path in names.paths.iter().chain(&names.imports) {
                let Some(target) = absolute(module, path, &modules) else { continue };
                let target = home(&target, &modules, &aliases);
                if target != *module && !target.is_empty() {
                    edges.entry(module.clone()).or_default().insert(target);
                }
            }
        }
        Self { edges }
    }

    /// Modules that import from each other, whether directly or by way of others.
    pub fn circles(&self) -> Vec<BTreeSet<&Module>> {
        let mut circles: Vec<BTreeSet<&Module>> = Vec::new();
        for module in self.edges.keys().filter(|module| self.below(module).contains(module)) {
            let round = self.below(module).into_iter().filter(|other| self.below(other).contains(module)).collect();
            if !circles.contains(&round) {
                circles.push(round);
            }
        }
        circles
    }

    /// All that a module imports from, and what that imports from.
    fn below<'a>(&'a self, module: &'a Module) -> BTreeSet<&'a Module> {
        let (mut found, mut left) = (BTreeSet::new(), vec![module]);
        while let Some(next) = left.pop() {
            left.extend(self.edges.get(next).into_iter().flatten().filter(|target| found.insert(*target)));
        }
        found
    }
}

fn module_of(file: &str) -> Module {
    let mut names: Module = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib")) {
        names.pop();
    }
    names
}

/// A path from the crate's root; `None` when it leads into another crate.
fn absolute(module: &Module, path: &[String], modules: &BTreeSet<Module>) -> Option<Module> {
    let up = path.iter().take_while(|name| *name == "super").count();
    let (from, rest) = match path.first()?.as_str() {
        "crate" => (&[][..], &path[1..]),
        "super" => (&module[..module.len().checked_sub(up)?], &path[up..]),
        "self" => (&module[..], &path[1..]),
        child if modules.contains(&[module.as_slice(), &[child.to_owned()]].concat()) => (&module[..], path),
        _ => return None,
    };
    Some([from, rest].concat())
}

/// The module in which what `path` names is, and not those that only pass it on.
fn home(path: &Module, modules: &BTreeSet<Module>, aliases: &BTreeMap<Module, Module>) -> Module {
    let mut path = path.clone();
    for _ in 0..8 {
        let alias = (1..=path.len()).rev().find_map(|length| {
            let target = aliases.get(&path[..length])?;
            (!modules.contains(&path[..length]) && *target != path[..length]).then(|| (length, target.clone()))
        });
        let Some((length, target)) = alias else { break };
        path = [target, path[length..].to_vec()].concat();
    }
    while !path.is_empty() && !modules.contains(&path) {
        path.pop();
    }
    path
}

/// The paths that a file names.
struct Names {
    paths: Vec<Vec<String>>,
    imports: Vec<Vec<String>>,
}

impl Names {
    fn import(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.import(&with(&path.ident), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(before, tree)),
            syn::UseTree::Name(name) if name.ident == "self" => self.imports.push(before.to_vec()),
            syn::UseTree::Name(name) => self.imports.push(with(&name.ident)),
            syn::UseTree::Rename(rename) => self.imports.push(with(&rename.ident)),
            syn::UseTree::Glob(_) => self.imports.push(before.to_vec()),
        }
    }
}

impl Visit<'_> for Names {
    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.import(&[], &item.tree);
    }

    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        if !item.attrs.iter().any(|attribute| attribute.path().is_ident("cfg")) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        if path.segments.len() > 1 {
            self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    /// Who may see a thing is no import.
    fn visit_visibility(&mut self, _: &syn::Visibility) {}
}
