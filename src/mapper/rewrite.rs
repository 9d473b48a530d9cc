//! A pass over the tree of a template, before it is executed.
//!
//! `gotmpl` knows maps where Go knows types with fields and methods, and calls no methods; it says neither in which line
//! something failed nor, before it comes to it, that a function is unknown. So every access to a field becomes a call of
//! our own function, and so does printing; a line is noted before each action; and `set $d ...`, which changes a dict in
//! place in Go, assigns what it makes to the variable.

use gotmpl::parse::{
    ActionNode, BranchNode, CommandNode, DefineNode, Expr, ListNode, Node, Number, Parser, PipeNode, Pos, SmolStr,
    TemplateNode,
};

use super::functions;

/// Takes a count, a value, as many names of fields, and arguments for the last of them. No template can write such a name.
pub(super) const FIELD: &str = "\0field";
/// Takes what is printed.
pub(super) const PRINT: &str = "\0print";
/// The same for what Go knows the type of when it is nil.
pub(super) const PRINT_TYPED: &str = "\0print-typed";
/// Takes what a function of the language has made.
pub(super) const CHECK: &str = "\0check";
/// Makes nothing.
pub(super) const NOTHING: &str = "\0nothing";
/// Takes the number of a line.
pub(super) const LINE: &str = "\0line";

/// What changes its first argument in Go.
const CHANGES: [&str; 6] = ["set", "unset", "merge", "mustMerge", "mergeOverwrite", "mustMergeOverwrite"];
/// Arguments of one call, at most.
const ARGUMENTS_MAX: usize = 256;

/// The tree of a template, and those of the templates that it defines, by name.
///
/// # Errors
/// The line, and what is wrong there.
pub(super) fn trees(text: &str) -> Result<Vec<(SmolStr, ListNode)>, (usize, String)> {
    let parsed = Parser::new(text, "{{", "}}").and_then(Parser::parse);
    let (main, defined) = parsed.map_err(|e| (0, e.to_string()))?;
    let mut all = vec![(SmolStr::new(""), Pass::default().list(main)?)];
    for DefineNode { name, body, .. } in defined {
        // Of several the one that is not empty counts.
        if body.is_empty_tree() && all.iter().any(|(known, _)| *known == name) {
            continue;
        }
        all.push((name, Pass::default().list(body)?));
    }
    Ok(all)
}

type Rewritten<T> = Result<T, (usize, String)>;

/// The pass over one template: the variables that are declared where it is.
#[derive(Default)]
struct Pass {
    variables: Vec<SmolStr>,
}

impl Pass {
    fn list(&mut self, mut nodes: ListNode) -> Rewritten<ListNode> {
        let (mut all, outside) = (Vec::new(), self.variables.len());
        for node in nodes.nodes {
            let pos = match &node {
                Node::Action(action) => Some(action.pos),
                Node::If(branch) | Node::Range(branch) | Node::With(branch) => Some(branch.pos),
                Node::Template(template) => Some(template.pos),
                _ => None,
            };
            if let Some(pos) = pos {
                let line = Expr::Number(pos, Number::Int(pos.line as i64));
                let mut pipe = call(pos, LINE, vec![line]);
                // What is assigned is not printed.
                pipe.decl = vec![SmolStr::new("$\0")];
                all.push(Node::Action(ActionNode { pos, pipe }));
            }
            all.push(self.node(node)?);
        }
        self.variables.truncate(outside);
        nodes.nodes = all;
        Ok(nodes)
    }

    fn node(&mut self, node: Node) -> Rewritten<Node> {
        Ok(match node {
            Node::List(nodes) => Node::List(self.list(nodes)?),
            Node::Action(ActionNode { pos, pipe: written }) => {
                let is_printed = written.decl.is_empty();
                let is_typed = is_platform(&written);
                let mut pipe = self.pipeline(written)?;
                if is_printed {
                    let print = if is_typed { PRINT_TYPED } else { PRINT };
                    pipe.commands.push(command(pos, print, Vec::new()));
                }
                Node::Action(ActionNode { pos, pipe })
            }
            Node::If(node) => Node::If(self.branch(node)?),
            Node::Range(node) => Node::Range(self.branch(node)?),
            Node::With(node) => Node::With(self.branch(node)?),
            Node::Template(TemplateNode { pos, name, pipe }) => {
                // Without an argument a template sees nothing.
                let pipe = pipe.map_or(Ok(call(pos, NOTHING, Vec::new())), |pipe| self.pipeline(pipe))?;
                Node::Template(TemplateNode { pos, name, pipe: Some(pipe) })
            }
            Node::Define(DefineNode { pos, name, body }) => {
                Node::Define(DefineNode { pos, name, body: Pass::default().list(body)? })
            }
            other => other,
        })
    }

    fn branch(&mut self, node: BranchNode) -> Rewritten<BranchNode> {
        let (BranchNode { pos, pipe, body, else_body }, outside) = (node, self.variables.len());
        let pipe = self.pipeline(pipe)?;
        let body = self.list(body)?;
        let else_body = else_body.map(|body| self.list(body)).transpose()?;
        self.variables.truncate(outside);
        Ok(BranchNode { pos, pipe, body, else_body })
    }

    fn pipeline(&mut self, mut pipe: PipeNode) -> Rewritten<PipeNode> {
        for name in &pipe.decl {
            match pipe.is_assign {
                true => self.check_variable(pipe.pos, name)?,
                false => self.variables.push(name.clone()),
            }
        }
        let mut all = Vec::new();
        for (n, mut written) in pipe.commands.into_iter().enumerate() {
            if n > 0 && is_change(&written) {
                // What is piped into it is its last argument.
                let before = PipeNode { pos: written.pos, decl: Vec::new(), commands: all, is_assign: false };
                written = self.changing(written, Some(Expr::Pipe(pipe.pos, before)))?;
                all = vec![written];
                continue;
            }
            let pos = written.pos;
            let is_built_in =
                matches!(written.args.first(), Some(Expr::Identifier(_, name)) if functions::is_built_in(name));
            all.push(self.command(written)?);
            if is_built_in {
                all.push(command(pos, CHECK, Vec::new()));
            }
        }
        pipe.commands = all;
        Ok(pipe)
    }

    fn check_variable(&self, pos: Pos, name: &SmolStr) -> Rewritten<()> {
        match name == "$" || self.variables.contains(name) {
            true => Ok(()),
            false => Err((pos.line, format!("the variable {name} is not defined"))),
        }
    }

    /// A call that changes a dict in place in Go. Here it assigns the changed dict to the variable that is named, or whose
    /// field is.
    fn changing(&mut self, written: CommandNode, last: Option<Expr>) -> Rewritten<CommandNode> {
        let CommandNode { pos, args } = written;
        let mut args = args.into_iter();
        let (Some(name), Some(dict)) = (args.next(), args.next()) else {
            return Err((pos.line, "a dict is wanted that is to be changed".into()));
        };
        let rest = args.map(|written| self.expression(written)).collect::<Rewritten<Vec<Expr>>>()?;
        let call = |dict: Expr| CommandNode {
            pos,
            args: [name.clone(), dict].into_iter().chain(rest.clone()).chain(last.clone()).collect(),
        };
        let (at, variable, fields) = match dict {
            Expr::Variable(at, variable, fields) if variable != "$" => (at, variable, fields),
            // What a function makes nobody else has.
            Expr::Pipe(..) => return Ok(call(self.expression(dict)?)),
            _ => {
                let why =
                    "it changes a dict in place in Go, and here only one that a variable names, or a field of that";
                return Err((pos.line, why.into()));
            }
        };
        self.check_variable(at, &variable)?;
        let whole = || Expr::Variable(at, variable.clone(), Vec::new());
        let part = |count: usize| match count {
            0 => whole(),
            _ => piped(at, field(at, whole(), fields[..count].to_vec(), Vec::new())),
        };
        // From the inside out: each dict with the changed one in it.
        let mut changed = call(part(fields.len()));
        for n in (0..fields.len()).rev() {
            let key = Expr::String(at, fields[n].as_str().into());
            changed = command(pos, "set", vec![part(n), key, piped(at, changed)]);
        }
        let assigned = PipeNode { pos, decl: vec![variable.clone()], commands: vec![changed], is_assign: true };
        Ok(CommandNode { pos, args: vec![Expr::Pipe(pos, assigned)] })
    }

    fn command(&mut self, written: CommandNode) -> Rewritten<CommandNode> {
        if is_change(&written) {
            return self.changing(written, None);
        }
        let CommandNode { pos, args } = written;
        if args.len() > ARGUMENTS_MAX {
            return Err((pos.line, format!("a call has more than {ARGUMENTS_MAX} arguments")));
        }
        let mut args = args.into_iter();
        let Some(first) = args.next() else { return Err((pos.line, "a command is empty".into())) };
        let rest = args.map(|written| self.expression(written)).collect::<Rewritten<Vec<Expr>>>()?;
        Ok(match first {
            Expr::Identifier(at, name) => {
                let name = known(at, name)?;
                CommandNode { pos, args: [Expr::Identifier(at, name)].into_iter().chain(rest).collect() }
            }
            // A field of what a function makes.
            Expr::Chain(at, inner, fields) if matches!(*inner, Expr::Identifier(..)) => {
                let Expr::Identifier(_, name) = *inner else { return Err((pos.line, "a call without a name".into())) };
                let name = known(at, name)?;
                let made = command_with(pos, Expr::Identifier(at, name), rest);
                let made = Expr::Pipe(at, PipeNode { pos, decl: Vec::new(), commands: vec![made], is_assign: false });
                field(at, made, fields, Vec::new())
            }
            Expr::Field(at, fields) => field(at, Expr::Dot(at), fields, rest),
            Expr::Variable(at, name, fields) if !fields.is_empty() => {
                self.check_variable(at, &name)?;
                field(at, Expr::Variable(at, name, Vec::new()), fields, rest)
            }
            Expr::Chain(at, inner, fields) => field(at, self.expression(*inner)?, fields, rest),
            other => command_with(pos, self.expression(other)?, rest),
        })
    }

    fn expression(&mut self, written: Expr) -> Rewritten<Expr> {
        Ok(match written {
            Expr::Field(at, fields) => piped(at, field(at, Expr::Dot(at), fields, Vec::new())),
            Expr::Variable(at, name, fields) if fields.is_empty() => {
                self.check_variable(at, &name)?;
                Expr::Variable(at, name, fields)
            }
            Expr::Variable(at, name, fields) => {
                self.check_variable(at, &name)?;
                piped(at, field(at, Expr::Variable(at, name, Vec::new()), fields, Vec::new()))
            }
            Expr::Chain(at, inner, fields) => piped(at, field(at, self.expression(*inner)?, fields, Vec::new())),
            Expr::Pipe(at, pipe) => Expr::Pipe(at, self.pipeline(pipe)?),
            Expr::Identifier(at, name) => Expr::Identifier(at, known(at, name)?),
            other => other,
        })
    }
}

/// Whether a call changes its first argument in Go.
fn is_change(written: &CommandNode) -> bool {
    matches!(written.args.first(), Some(Expr::Identifier(_, name)) if CHANGES.contains(&name.as_str()))
}

/// Whether `.Platform` alone is printed, which is a pointer in Go.
fn is_platform(pipe: &PipeNode) -> bool {
    match &pipe.commands[..] {
        [only] => {
            matches!(&only.args[..], [Expr::Field(_, names)] if names.last().is_some_and(|name| name == "Platform"))
        }
        _ => false,
    }
}

/// A function that there is.
fn known(at: Pos, name: SmolStr) -> Rewritten<SmolStr> {
    match functions::is_known(&name) {
        true => Ok(name),
        false => Err((at.line, functions::unknown(&name))),
    }
}

fn field(at: Pos, of: Expr, fields: Vec<SmolStr>, arguments: Vec<Expr>) -> CommandNode {
    let count = Expr::Number(at, Number::Int(fields.len() as i64));
    let names = fields.iter().map(|name| Expr::String(at, name.as_str().into()));
    let args = [count, of].into_iter().chain(names).chain(arguments).collect();
    command(at, FIELD, args)
}

fn command(pos: Pos, name: &str, arguments: Vec<Expr>) -> CommandNode {
    command_with(pos, Expr::Identifier(pos, SmolStr::new(name)), arguments)
}

fn command_with(pos: Pos, first: Expr, arguments: Vec<Expr>) -> CommandNode {
    CommandNode { pos, args: [first].into_iter().chain(arguments).collect() }
}

fn call(pos: Pos, name: &str, arguments: Vec<Expr>) -> PipeNode {
    PipeNode { pos, decl: Vec::new(), commands: vec![command(pos, name, arguments)], is_assign: false }
}

fn piped(pos: Pos, command: CommandNode) -> Expr {
    Expr::Pipe(pos, PipeNode { pos, decl: Vec::new(), commands: vec![command], is_assign: false })
}
