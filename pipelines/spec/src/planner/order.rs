//! The steps in an order in which each comes after those it reads.

use crate::diagnostic::{Code, Diagnostic};
use crate::planner::{Planner, Stream, from_place};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    Open,
    Done,
}

impl Planner<'_> {
    /// Steps by their place in the file. Steps of a cycle are reported, marked broken and left out.
    pub(super) fn order(&mut self) -> Vec<usize> {
        let count = self.file.steps.len();
        let mut walk = Walk { marks: vec![Mark::New; count], path: Vec::new(), order: Vec::new() };
        for start in 0..count {
            self.visit(start, &mut walk);
        }
        let broken = |index: &usize| {
            !matches!(self.streams.get(self.file.steps[*index].name), Some(Stream::Broken))
        };
        walk.order.retain(broken);
        walk.order
    }

    fn visit(&mut self, index: usize, walk: &mut Walk) {
        match walk.marks[index] {
            Mark::Done => return,
            Mark::Open => return self.cycle(index, walk),
            Mark::New => {}
        }
        walk.marks[index] = Mark::Open;
        walk.path.push(index);
        let file = self.file;
        let names = file.steps[index].common.as_ref().map(|c| c.from.list()).unwrap_or_default();
        for name in names {
            if file.sources.iter().any(|s| s.name == name) {
                continue;
            }
            if let Some(next) = file.steps.iter().position(|s| s.name == name) {
                self.visit(next, walk);
            }
        }
        walk.path.pop();
        walk.marks[index] = Mark::Done;
        walk.order.push(index);
    }

    fn cycle(&mut self, index: usize, walk: &Walk) {
        let file = self.file;
        let start = walk.path.iter().position(|i| *i == index).unwrap_or(0);
        let members = &walk.path[start..];
        if members.iter().any(|i| self.streams.get(file.steps[*i].name) == Some(&Stream::Broken)) {
            return;
        }
        let names: Vec<&str> = members.iter().map(|i| file.steps[*i].name).collect();
        // The first member reads the second, so read backwards it is the way the rows would go.
        let way: Vec<String> = std::iter::once(names[0])
            .chain(names.iter().rev().copied())
            .map(|n| format!("'{n}'"))
            .collect();
        let step = &file.steps[index];
        let message = match names.as_slice() {
            [one] => format!("step '{one}' reads itself"),
            _ => format!("these steps wait for one another: {}", way.join(" -> ")),
        };
        let position = step.common.as_ref().and_then(|c| {
            let next = names.get(1).copied().unwrap_or(names[0]);
            c.from.list().iter().position(|n| n == next)
        });
        let span = from_place(step.node, position.unwrap_or(0));
        let error = Diagnostic::error(Code::CYCLE, span, message);
        self.out.push(error.label("leads back here").help("let one of them read a source"));
        for name in names {
            self.streams.insert(name, Stream::Broken);
        }
    }
}

struct Walk {
    marks: Vec<Mark>,
    path: Vec<usize>,
    order: Vec<usize>,
}
