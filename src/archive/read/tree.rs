//! What an archive holds as a tree: sources, indexes, platforms, configurations, layers and referrers, and what is shared.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    catalog::{Catalog, ManifestLink, ManifestSummary},
    lists::ListedManifest,
};
use crate::{
    error::one_line,
    oci::{Digest, layout::DEPTH_MAX, media},
    util::units::{grouped, human_size},
};

/// So many lines are made; an archive may list one thing in many.
const LINES_MAX: usize = 4 << 20;

/// The characters of a tree.
#[derive(Clone, Copy)]
pub struct TreeStyle {
    branch: &'static str,
    last: &'static str,
    line: &'static str,
    none: &'static str,
}

impl TreeStyle {
    /// Drawn with lines.
    pub const LINES: TreeStyle = TreeStyle { branch: "├── ", last: "└── ", line: "│   ", none: "    " };
    /// With what every terminal has.
    pub const ASCII: TreeStyle = TreeStyle { branch: "|-- ", last: "`-- ", line: "|   ", none: "    " };
}

/// One thing below another.
struct TreeNode {
    /// What it is to what stands above it, in words.
    role: String,
    media_type: Arc<str>,
    digest: Digest,
    size: u64,
}

/// The tree while it is drawn.
struct TreeWalk<'a> {
    catalog: &'a Catalog,
    style: TreeStyle,
    /// How many manifests refer to each thing.
    uses: HashMap<&'a Digest, u32>,
    /// By subject.
    referrers: HashMap<&'a Digest, Vec<&'a Digest>>,
    shown: HashSet<Digest>,
    lines: Vec<String>,
}

impl Catalog {
    /// The lines of the tree, in the order of `index.json`.
    pub fn tree(&self, style: TreeStyle) -> Vec<String> {
        let (mut uses, mut referrers): (HashMap<&Digest, u32>, HashMap<&Digest, Vec<&Digest>>) = Default::default();
        for (digest, document) in &self.documents {
            let mut met = HashSet::new();
            for edge in document.edges.iter().filter(|edge| met.insert(&edge.digest)) {
                match edge.role {
                    "subject" => referrers.entry(&edge.digest).or_default().push(digest),
                    _ => *uses.entry(&edge.digest).or_default() += 1,
                }
            }
        }
        referrers.values_mut().for_each(|all| all.sort_unstable());
        let mut walk = TreeWalk { catalog: self, style, uses, referrers, shown: HashSet::new(), lines: Vec::new() };
        let mut roots: Vec<ListedManifest> = self.listed_roots().collect();
        // Behind the root of an archive of this tool stands what is below it.
        if self.lists.are_ours() {
            roots.truncate(1);
        }
        for root in &roots {
            let name = root.name.as_deref().unwrap_or("-");
            walk.show(&TreeNode::listed(root, name), "", "", 0);
        }
        if walk.lines.len() >= LINES_MAX {
            walk.lines.push("and more".into());
        }
        walk.lines
    }
}

impl TreeNode {
    fn listed(listed: &ListedManifest, role: &str) -> TreeNode {
        let ListedManifest { media_type, digest, size, .. } = listed;
        TreeNode { role: role.into(), media_type: media_type.clone(), digest: digest.clone(), size: *size }
    }

    fn linked(link: &ManifestLink) -> TreeNode {
        let (digest, size) = (link.digest.clone(), link.size);
        TreeNode { role: link.role.into(), media_type: link.media_type.clone(), digest, size }
    }
}

impl<'a> TreeWalk<'a> {
    /// `own` is what stands in front of its line, and `below` in front of those of what it refers to.
    fn show(&mut self, node: &TreeNode, own: &str, below: &str, depth: usize) {
        if depth > DEPTH_MAX || self.lines.len() >= LINES_MAX {
            return;
        }
        let catalog = self.catalog;
        let document = catalog.documents.get(&node.digest);
        let is_again = !self.shown.insert(node.digest.clone());
        let mut line = format!("{own}{}", one_line(&node.role));
        let kind = match &*node.media_type {
            _ if document.is_some_and(|document| document.is_gather) => "gather index",
            kind if media::is_index(kind) => "index",
            kind if media::is_manifest(kind) => "manifest",
            kind => kind,
        };
        line.push_str(&format!("  {}, {}, {}", one_line(kind), human_size(node.size), node.digest));
        let uses = self.uses.get(&node.digest).copied().unwrap_or(0);
        if uses > 1 {
            line.push_str(&format!(", shared by {}", grouped(uses.into())));
        }
        if !catalog.blobs().contains_key(&node.digest) {
            line.push_str(", not in the archive");
        }
        let has_below = document.is_some_and(|document| !document.edges.is_empty() || !document.index.is_empty());
        if is_again && (has_below || self.referrers.contains_key(&node.digest)) {
            line.push_str(", as above");
        }
        self.lines.push(line);
        if is_again {
            return;
        }
        let children = document.map(|document| self.below(document)).unwrap_or_default();
        let referrers = self.referrers.get(&node.digest).cloned().unwrap_or_default();
        let referrers = referrers.into_iter().filter_map(|digest| self.referrer(digest));
        let children: Vec<TreeNode> = children.into_iter().chain(referrers).collect();
        for (n, child) in children.iter().enumerate() {
            let TreeStyle { branch, last, line, none } = self.style;
            let (mark, next) = if n + 1 == children.len() { (last, none) } else { (branch, line) };
            self.show(child, &format!("{below}{mark}"), &format!("{below}{next}"), depth + 1);
        }
    }

    /// What a manifest refers to.
    fn below(&self, document: &'a ManifestSummary) -> Vec<TreeNode> {
        let listed = document.index.iter().map(|listed| {
            let name = if document.is_gather { listed.name.as_deref() } else { None };
            TreeNode::listed(listed, name.or(listed.platform.as_deref()).unwrap_or("manifest"))
        });
        let linked = document.edges.iter().filter(|edge| !matches!(edge.role, "subject" | "manifest"));
        listed.chain(linked.map(TreeNode::linked)).collect()
    }

    fn referrer(&self, digest: &Digest) -> Option<TreeNode> {
        let (document, held) = (self.catalog.documents.get(digest)?, self.catalog.blobs().get(digest)?);
        let (media_type, digest) = (document.media_type.clone(), digest.clone());
        Some(TreeNode { role: "referrer".into(), media_type, digest, size: held.size })
    }
}
