//! A comparison for programs: one object, whose form has a version.

use profpipe_store::diff::{Per, SideTotal, Verdict};
use serde_json::{Value, json};

use super::Report;

/// Fields are added without another version; one that changes or goes means the next one.
const VERSION: u32 = 1;

impl Report<'_> {
    pub(super) fn to_json(&self) -> String {
        let diff = self.diff;
        let rows = diff.rows.get(..self.limit.unwrap_or(usize::MAX)).unwrap_or(&diff.rows);
        let functions: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({
                    "name": row.name,
                    "module": row.module,
                    "base": row.cost[0],
                    "new": row.cost[1],
                    "base_share": row.share[0],
                    "new_share": row.share[1],
                    "base_rate": row.rate.map(|rates| rates[0]),
                    "new_rate": row.rate.map(|rates| rates[1]),
                    "delta_share": row.delta(),
                    "delta_interval": row.interval.map(|(low, high)| [low, high]),
                    "ratio": row.ratio.map(|ratio| ratio.0),
                    "ratio_interval": row.ratio.and_then(|it| it.1).map(|(low, high)| [low, high]),
                    "q": row.q,
                    "class": row.class.name(),
                    "is_finding": row.is_finding(),
                })
            })
            .collect();
        let environment: Vec<Value> = diff
            .environment
            .iter()
            .map(|it| json!({ "key": it.key, "base": it.base, "new": it.new }))
            .collect();
        let (verdict, reasons): (&str, &[String]) = match self.verdict {
            _ if !self.is_gated => ("none", &[]),
            Verdict::Pass => ("no_finding", &[]),
            Verdict::Findings(findings) => ("finding", findings),
            Verdict::Undecidable(why) => ("not_decidable", why),
        };
        let object = json!({
            "version": VERSION,
            "profile_type": diff.profile_type.kind(),
            "unit": diff.profile_type.unit(),
            "cost": if self.options.by == profpipe_store::diff::Cost::Total { "total" } else { "self" },
            "per": match &self.options.per {
                Per::Total => "total",
                Per::Time => "time",
                Per::Named(name) => name,
            },
            "base": side(&diff.sides[0]),
            "new": side(&diff.sides[1]),
            "total": diff.total.map(|total| json!({
                "base": total.means[0],
                "new": total.means[1],
                "ratio": total.ratio,
                "ratio_interval": total.interval.map(|(low, high)| [low, high]),
                "chance": total.chance,
            })),
            "decidable": diff.why.is_none(),
            "why": diff.why,
            "environment": environment,
            "tested": diff.tested,
            "factors": diff.factors,
            "between": diff.between,
            "verdict": { "result": verdict, "reasons": reasons },
            "count": diff.rows.len(),
            "functions": functions,
        });
        format!("{object:#}\n")
    }
}

fn side(side: &SideTotal) -> Value {
    json!({
        "runs": side.runs,
        "samples": side.samples,
        "total": side.total,
        "duration_nanos": (side.duration > 0).then_some(side.duration),
        "lost": side.loss.lost,
        "truncated": side.loss.truncated,
        "broken": side.loss.broken,
    })
}
