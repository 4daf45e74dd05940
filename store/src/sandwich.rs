//! One function in the middle: who calls it, and what it calls.
//!
//! Where it calls itself the call next to the root counts: what is above it are its callers, what is below
//! is what it calls, itself included. So both trees have the weight of the function.

use std::borrow::Cow;

use crate::error::QueryError;
use crate::select::{Item, Selected};
use crate::tree::{Tree, TreeOptions, grow};

/// A function with its callers and callees.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandwich {
    /// The cost of the function itself.
    pub own: i64,
    /// The cost with everything it calls.
    pub total: i64,
    /// Its callers, each below what it calls; the root is the function.
    pub callers: Tree<1>,
    /// What it calls; the root is the function.
    pub callees: Tree<1>,
}

impl Selected<'_> {
    /// The functions of a name, of one module or of any.
    pub(crate) fn named(&self, name: &str, module: Option<&str>) -> Result<Vec<bool>, QueryError> {
        let functions = self.table.functions.iter();
        let is_named: Vec<bool> = functions
            .map(|it| it.name == name && module.is_none_or(|module| it.module == module))
            .collect();
        if !is_named.contains(&true) {
            let name: String = name.chars().take(200).collect();
            return Err(QueryError::NotFound(format!("there is no function `{name}`")));
        }
        Ok(is_named)
    }

    /// What calls the functions of a name, and what they call.
    ///
    /// # Errors
    /// If there is no such function.
    pub fn sandwich(
        &self,
        name: &str,
        module: Option<&str>,
        options: &TreeOptions,
    ) -> Result<Sandwich, QueryError> {
        let is_named = self.named(name, module)?;
        let is_it = |function: &u32| is_named[*function as usize];
        let (mut own, mut total) = (0_i64, 0_i64);
        let (mut callers, mut callees): (Vec<Item<'_, 1>>, Vec<Item<'_, 1>>) = Default::default();
        for (path, weight) in self.iter() {
            let Some(at) = path.iter().position(is_it) else { continue };
            let (above, below) = path.split_at(at);
            total = total.saturating_add(weight);
            if path.last().is_some_and(is_it) {
                own = own.saturating_add(weight);
            }
            callers.push((Cow::Owned(above.iter().rev().copied().collect()), [weight]));
            callees.push((Cow::Borrowed(below.get(1..).unwrap_or_default()), [weight]));
        }
        let options = TreeOptions { root: None, ..*options };
        let tree = |mut items: Vec<Item<'_, 1>>| {
            items.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            let mut tree = grow(self.table, &items, &options)?;
            let function = is_named.iter().position(|is| *is).map(|at| at as u32);
            if let Some(root) = tree.nodes.first_mut() {
                root.function = function;
            }
            Ok::<_, QueryError>(tree)
        };
        Ok(Sandwich { own, total, callers: tree(callers)?, callees: tree(callees)? })
    }
}
