//! A verification as a table: each instruction with the stack that it leaves.

use leyden_consensus::script::ScriptError;
use serde_json::{Value, json};

use super::super::table;
use crate::lab::trace::{Step, Trace, TracedStage};

/// Items up to so many bytes are shown whole.
const WHOLE: usize = 8;
/// Of a longer item, so many bytes at its beginning.
const BEGINNING: usize = 4;

/// How items of a stack are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Items {
    /// The beginning of a long one, with its length.
    Short,
    /// All of it.
    Whole,
}

/// Each script with its steps, and how it ended.
pub(super) fn text(trace: &Trace, items: Items) -> String {
    let mut parts: Vec<String> = trace.stages.iter().map(|stage| stage_text(stage, items)).collect();
    if trace.left_out > 0 {
        parts.push(format!("… and {} instructions more", trace.left_out));
    }
    parts.push(match &trace.failure {
        None => "The input may be spent.".to_owned(),
        Some(error) => format!("The input may not be spent: {} ({}).", error, error.core_name()),
    });
    parts.join("\n\n")
}

fn stage_text(stage: &TracedStage, items: Items) -> String {
    let heading = match stage.script.as_str() {
        "" => format!("{}: nothing to check", stage.name),
        script => format!("{}: {}", stage.name, words(script, items)),
    };
    if stage.steps.is_empty() {
        return heading;
    }
    let begin = [String::new(), shown(&stage.stack, items)];
    let rows = std::iter::once(begin)
        .chain(stage.steps.iter().map(|step| [item_word(&step.instruction, items), after(step, items)]));
    format!("{heading}\n{}", table::list(["instruction", "stack after it, its top on the right"], rows.collect(), ""))
}

fn after(step: &Step, items: Items) -> String {
    match &step.stack {
        None => "✗ fails here".to_owned(),
        Some(_) if step.skipped => "(not in the branch that is taken)".to_owned(),
        Some(stack) if step.alternative.is_empty() => shown(stack, items),
        Some(stack) => format!("{}   alternative: {}", shown(stack, items), shown(&step.alternative, items)),
    }
}

fn shown(stack: &[Vec<u8>], items: Items) -> String {
    if stack.is_empty() {
        return "(empty)".to_owned();
    }
    let item = |item: &Vec<u8>| if item.is_empty() { "''".to_owned() } else { item_word(&hex::encode(item), items) };
    stack.iter().map(item).collect::<Vec<_>>().join("  ")
}

/// A script as opcodes and data, with its long data as items are shown.
pub(super) fn words(script: &str, items: Items) -> String {
    script.split(' ').map(|word| item_word(word, items)).collect::<Vec<_>>().join(" ")
}

/// Hex of a long item is cut; a name never is.
fn item_word(word: &str, items: Items) -> String {
    let is_hex = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    match word.get(..2 * BEGINNING) {
        Some(beginning) if is_hex && items == Items::Short && word.len() > 2 * WHOLE => {
            format!("{beginning}…({})", word.len() / 2)
        }
        _ => word.to_owned(),
    }
}

/// The same for programs, with whole items.
pub(super) fn value(trace: &Trace) -> Value {
    let in_hex = |stack: &[Vec<u8>]| stack.iter().map(hex::encode).collect::<Vec<_>>();
    let step = |step: &Step| {
        json!({
            "instruction": step.instruction,
            "skipped": step.skipped,
            "stack": step.stack.as_deref().map(in_hex),
            "alternative": in_hex(&step.alternative),
        })
    };
    let stages = trace.stages.iter().map(|stage| {
        let steps: Vec<_> = stage.steps.iter().map(step).collect();
        json!({ "name": stage.name, "script": stage.script, "stack": in_hex(&stage.stack), "steps": steps })
    });
    json!({
        "stages": stages.collect::<Vec<_>>(),
        "instructions_left_out": trace.left_out,
        "failure": trace.failure.as_ref().map(ScriptError::core_name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_items_are_cut_unless_all_of_them_is_wanted() {
        let stack = [vec![], vec![1], vec![0xab; 20]];
        assert_eq!(shown(&stack, Items::Short), "''  01  abababab…(20)");
        assert!(shown(&stack, Items::Whole).ends_with(&"ab".repeat(20)));
        assert_eq!(shown(&[], Items::Short), "(empty)");
        let script = format!("OP_CHECKLOCKTIMEVERIFY {}", "cd".repeat(33));
        assert_eq!(words(&script, Items::Short), "OP_CHECKLOCKTIMEVERIFY cdcdcdcd…(33)");
        assert_eq!(words(&script, Items::Whole), script);
    }

    #[test]
    fn a_failed_instruction_is_marked_and_the_cause_named() {
        let step = Step { instruction: "OP_RETURN".to_owned(), skipped: false, stack: None, alternative: Vec::new() };
        let stage =
            TracedStage { name: "output script", script: "OP_RETURN".to_owned(), stack: Vec::new(), steps: vec![step] };
        let mut trace = Trace::default();
        trace.stages.push(stage);
        trace.failure = Some(ScriptError::OpReturn);
        let text = text(&trace, Items::Short);
        assert!(text.contains("✗ fails here") && text.contains("(OP_RETURN)"), "{text}");
        assert_eq!(value(&trace)["failure"], "OP_RETURN");
    }
}
