//! Functions with what they cost, always from all stacks.

use regex::Regex;

use crate::error::QueryError;
use crate::matcher::regex;
use crate::select::Selected;

/// How functions are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Column {
    /// By their own cost.
    #[default]
    Own,
    /// By the cost with everything they call.
    Total,
    /// By name.
    Name,
}

/// What a function costs.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionCost<'t> {
    /// The name; `module+0xoffset` if there is none.
    pub name: &'t str,
    /// The last part of the path of the executable or library; empty if unknown.
    pub module: &'t str,
    /// The source file; empty if unknown.
    pub file: &'t str,
    /// The cost of the function itself.
    pub own: i64,
    /// The cost with everything it calls; a recursive call counts once.
    pub total: i64,
}

/// Functions with their costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Functions<'t> {
    /// Those that cost anything.
    pub rows: Vec<FunctionCost<'t>>,
    /// The cost of samples without a stack.
    pub without_stack: i64,
}

/// What a search finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Search<'t> {
    /// The weight of the stacks that have a match.
    pub total: i64,
    /// The functions that match, the most costly first.
    pub functions: Vec<FunctionCost<'t>>,
}

#[derive(Clone, Copy, Default)]
struct Cost {
    own: i64,
    total: i64,
    /// The last stack it was seen in, counted from 1.
    last_stack: u32,
}

impl<'t> Selected<'t> {
    /// The functions of the selection, sorted.
    pub fn functions(&self, by: Column) -> Functions<'t> {
        let mut functions = self.costs();
        sort(&mut functions.rows, by);
        functions
    }

    fn costs(&self) -> Functions<'t> {
        let mut costs = vec![Cost::default(); self.table.functions.len()];
        let mut without_stack = 0_i64;
        for (stack, (path, weight)) in (1_u32..).zip(self.iter()) {
            match path.last() {
                Some(leaf) => {
                    let own = &mut costs[*leaf as usize].own;
                    *own = own.saturating_add(weight);
                }
                None => without_stack = without_stack.saturating_add(weight),
            }
            for function in path {
                let cost = &mut costs[*function as usize];
                if std::mem::replace(&mut cost.last_stack, stack) != stack {
                    cost.total = cost.total.saturating_add(weight);
                }
            }
        }
        let known = self.table.functions.iter().zip(costs);
        let rows = known
            .filter(|(_, cost)| (cost.own, cost.total) != (0, 0))
            .map(|(function, cost)| FunctionCost {
                name: &function.name,
                module: &function.module,
                file: &function.file,
                own: cost.own,
                total: cost.total,
            })
            .collect();
        Functions { rows, without_stack }
    }

    /// The functions whose name has a text, or matches an expression between slashes. Small letters find
    /// large ones, too.
    ///
    /// # Errors
    /// If the expression is not one.
    pub fn search(&self, term: &str) -> Result<Search<'t>, QueryError> {
        let matcher = self::term(term)?;
        let is_match: Vec<bool> =
            self.table.functions.iter().map(|it| matcher.is_match(&it.name)).collect();
        let has_match = |path: &[u32]| path.iter().any(|function| is_match[*function as usize]);
        let matching = self.iter().filter(|(path, _)| has_match(path));
        let total = matching.fold(0_i64, |sum, (_, weight)| sum.saturating_add(weight));
        let mut functions = self.costs().rows;
        functions.retain(|one| matcher.is_match(one.name));
        sort(&mut functions, Column::Total);
        Ok(Search { total, functions })
    }
}

/// A search term as an expression: a text in which small letters stand for large ones, too, or an expression
/// between slashes.
///
/// # Errors
/// If the expression is not one.
pub fn term(term: &str) -> Result<Regex, QueryError> {
    let expression = term.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    match expression {
        Some(expression) => regex(expression, "term"),
        None => {
            let is_small = !term.chars().any(char::is_uppercase);
            let case = if is_small { "(?i)" } else { "" };
            regex(&format!("{case}{}", regex::escape(term)), "term")
        }
    }
}

fn sort(rows: &mut [FunctionCost<'_>], by: Column) {
    rows.sort_by(|a, b| {
        let own = b.own.unsigned_abs().cmp(&a.own.unsigned_abs());
        let total = b.total.unsigned_abs().cmp(&a.total.unsigned_abs());
        let costs = match by {
            Column::Own => own.then(total),
            Column::Total => total.then(own),
            Column::Name => std::cmp::Ordering::Equal,
        };
        costs.then_with(|| (a.name, a.module).cmp(&(b.name, b.module)))
    });
}
