//! The rows of a space merged: those that differ in nothing that matters are one.
//!
//! The answers become a decision diagram, one level for each fact: a level whose values all lead to the same is left out, values
//! that lead to the same are one branch, and what the filter never finds fits to any branch.

use std::collections::HashMap;
use std::ops::Range;

use super::space::Space;

/// A row that stands for many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Merged {
    /// For each fact the values (classes) that it holds for; none: for all.
    pub(super) sets: Vec<Option<Vec<u8>>>,
    /// The answer, by its number.
    pub(super) answer: u32,
}

impl Merged {
    /// Whether it stands for this row.
    pub(super) fn holds(&self, row: &[u8]) -> bool {
        self.sets.iter().zip(row).all(|(set, class)| set.as_ref().is_none_or(|set| set.contains(class)))
    }
}

/// A node's number; the answers come first.
type Id = usize;

/// Branches that are compared with each other to find those that fit together; beyond it only equal ones are one.
const COMPARED: usize = 24;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Node {
    level: usize,
    branches: Vec<(Vec<u8>, Id)>,
}

struct Diagram<'a> {
    space: &'a Space,
    numbers: &'a dyn Fn(usize) -> Option<u32>,
    /// How many answers there are.
    leaves: usize,
    nodes: Vec<Node>,
    known: HashMap<Node, Id>,
    united: HashMap<(Id, Id), Option<Id>>,
}

/// The merged rows, and whether there are more than `most`. `numbers` tells the answer to each row, of which there are `leaves`;
/// rows without one are left out.
pub(super) fn merge(
    space: &Space,
    numbers: &dyn Fn(usize) -> Option<u32>,
    leaves: usize,
    most: usize,
) -> (Vec<Merged>, bool) {
    let mut diagram =
        Diagram { space, numbers, leaves, nodes: Vec::new(), known: HashMap::new(), united: HashMap::new() };
    let mut merged = Vec::new();
    let mut whole = true;
    if let Some(root) = diagram.build(0, 0..space.len()) {
        let mut sets = vec![None; space.axes.len()];
        whole = diagram.list(root, &mut sets, &mut merged, most);
    }
    (merged, !whole)
}

impl Diagram<'_> {
    fn build(&mut self, level: usize, rows: Range<usize>) -> Option<Id> {
        let first = (self.numbers)(rows.start)?;
        if rows.clone().all(|row| (self.numbers)(row) == Some(first)) {
            return usize::try_from(first).ok();
        }
        let class = |row: usize| self.space.row(row).get(level).copied();
        let (mut branches, mut begin) = (Vec::new(), rows.start);
        while begin < rows.end {
            let value = class(begin)?;
            // Rows are in the order of their classes.
            let end = (begin..rows.end).find(|row| class(*row) != Some(value)).unwrap_or(rows.end);
            branches.push((value, begin..end));
            begin = end;
        }
        let mut children = Vec::new();
        for (value, range) in branches {
            if let Some(child) = self.build(level + 1, range) {
                children.push((vec![value], child));
            }
        }
        self.node(level, children)
    }

    /// The node of these branches, those that fit together being one.
    fn node(&mut self, level: usize, children: Vec<(Vec<u8>, Id)>) -> Option<Id> {
        let mut branches: Vec<(Vec<u8>, Id)> = Vec::new();
        for (values, child) in children {
            let mut place = branches.iter().position(|(_, known)| *known == child).map(|place| (place, child));
            if place.is_none() {
                for at in 0..branches.len().min(COMPARED) {
                    if let Some(both) = branches.get(at).and_then(|(_, known)| self.unite(*known, child)) {
                        place = Some((at, both));
                        break;
                    }
                }
            }
            match place.and_then(|(place, both)| Some((branches.get_mut(place)?, both))) {
                Some((branch, both)) => {
                    branch.0.extend(values);
                    branch.1 = both;
                }
                None => branches.push((values, child)),
            }
        }
        if let [(_, only)] = branches.as_slice() {
            return Some(*only);
        }
        branches.iter_mut().for_each(|(values, _)| values.sort_unstable());
        let node = Node { level, branches };
        if let Some(known) = self.known.get(&node) {
            return Some(*known);
        }
        let id = self.leaves + self.nodes.len();
        self.known.insert(node.clone(), id);
        self.nodes.push(node);
        Some(id)
    }

    fn inner(&self, id: Id) -> Option<&Node> {
        self.nodes.get(id.checked_sub(self.leaves)?)
    }

    /// What says the same as both wherever either says something.
    fn unite(&mut self, one: Id, other: Id) -> Option<Id> {
        if one == other {
            return Some(one);
        }
        let key = (one.min(other), one.max(other));
        if let Some(known) = self.united.get(&key) {
            return *known;
        }
        let united = self.unite_nodes(one, other);
        self.united.insert(key, united);
        united
    }

    fn unite_nodes(&mut self, one: Id, other: Id) -> Option<Id> {
        let level = |node: Option<&Node>| node.map_or(usize::MAX, |node| node.level);
        let (upper, lower) = match level(self.inner(one)) <= level(self.inner(other)) {
            true => (one, other),
            false => (other, one),
        };
        // Two answers that differ are two leaves.
        let node = self.inner(upper)?.clone();
        let beside = self.inner(lower).filter(|lower| lower.level == node.level).cloned();
        let mut children = Vec::new();
        for (values, child) in &node.branches {
            for value in values {
                let meets = match &beside {
                    None => Some(lower),
                    Some(beside) => beside.branches.iter().find(|(known, _)| known.contains(value)).map(|(_, id)| *id),
                };
                let child = match meets {
                    Some(meets) => self.unite(*child, meets)?,
                    None => *child,
                };
                children.push((vec![*value], child));
            }
        }
        let new = |value: &u8| !node.branches.iter().any(|(values, _)| values.contains(value));
        if beside.is_none() {
            // What the other says of every value it says of those, too, of which this one says nothing.
            let count = self.space.axes.get(node.level).map_or(0, |axis| axis.classes.len());
            let all = (0..count).filter_map(|class| u8::try_from(class).ok());
            children.extend(all.filter(new).map(|value| (vec![value], lower)));
        }
        for (values, child) in beside.iter().flat_map(|beside| &beside.branches) {
            children.extend(values.iter().filter(|value| new(value)).map(|value| (vec![*value], *child)));
        }
        self.node(node.level, children)
    }

    /// Writes the ways to the answers; false where there are more than `most`.
    fn list(&self, id: Id, sets: &mut Vec<Option<Vec<u8>>>, out: &mut Vec<Merged>, most: usize) -> bool {
        let Some(node) = self.inner(id) else {
            if out.len() >= most {
                return false;
            }
            out.push(Merged { sets: sets.clone(), answer: u32::try_from(id).unwrap_or(u32::MAX) });
            return true;
        };
        for (values, child) in &node.branches {
            if let Some(set) = sets.get_mut(node.level) {
                *set = Some(values.clone());
            }
            if !self.list(*child, sets, out, most) {
                return false;
            }
        }
        if let Some(set) = sets.get_mut(node.level) {
            *set = None;
        }
        true
    }
}
