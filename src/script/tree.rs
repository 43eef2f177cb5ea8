//! Reading the syntax tree: children of a node, steps, chains of members.

use rhai::{ASTNode, CustomExpr, Expr, FnCallExpr, Position, Stmt, StmtBlock};

/// Words that begin a step.
pub const STEP_WORDS: [&str; 2] = ["step", "attempt"];

/// Begins a block with a clean-up.
pub const ENSURE: &str = "ensure";

/// Marks the names that Rhai gives to closures.
pub const CLOSURE: &str = "anon$";

/// The nodes directly below `node`, in the order of the source as far as the tree keeps it.
pub fn children<'a>(node: ASTNode<'a>) -> Vec<ASTNode<'a>> {
    fn exprs<'a>(items: impl IntoIterator<Item = &'a Expr>) -> Vec<ASTNode<'a>> {
        items.into_iter().map(ASTNode::Expr).collect()
    }
    fn flow<'a>(expr: &'a Expr, body: &'a StmtBlock, branch: &'a StmtBlock) -> Vec<ASTNode<'a>> {
        let blocks = body.iter().chain(branch.iter()).map(ASTNode::Stmt);
        std::iter::once(ASTNode::Expr(expr)).chain(blocks).collect()
    }
    match node {
        ASTNode::Expr(expr) => match expr {
            Expr::Stmt(block) => block.iter().map(ASTNode::Stmt).collect(),
            Expr::InterpolatedString(items, _) | Expr::Array(items, _) => exprs(items.iter()),
            Expr::Map(map, _) => exprs(map.0.iter().map(|(_, value)| value)),
            Expr::Index(pair, ..) | Expr::Dot(pair, ..) => exprs([&pair.lhs, &pair.rhs]),
            Expr::And(items, _) | Expr::Or(items, _) | Expr::Coalesce(items, _) => exprs(items.iter()),
            Expr::FnCall(call, _) | Expr::MethodCall(call, _) => exprs(call.args.iter()),
            Expr::Custom(custom, _) => exprs(custom.inputs.iter()),
            _ => Vec::new(),
        },
        ASTNode::Stmt(stmt) => match stmt {
            Stmt::Var(var, ..) => exprs([&var.1]),
            Stmt::If(x, _) | Stmt::While(x, _) | Stmt::Do(x, ..) | Stmt::TryCatch(x, _) => {
                flow(&x.expr, &x.body, &x.branch)
            }
            Stmt::For(x, _) => flow(&x.2.expr, &x.2.body, &x.2.branch),
            Stmt::Assignment(x) => exprs([&x.1.lhs, &x.1.rhs]),
            Stmt::FnCall(call, _) => exprs(call.args.iter()),
            Stmt::Block(block) => block.iter().map(ASTNode::Stmt).collect(),
            Stmt::Expr(expr) => exprs([&**expr]),
            Stmt::BreakLoop(Some(expr), ..) | Stmt::Return(Some(expr), ..) => exprs([&**expr]),
            Stmt::Import(x, _) => exprs([&x.0]),
            Stmt::Switch(x, _) => exprs(
                std::iter::once(&x.0).chain(x.1.expressions.iter().flat_map(|case| [&case.lhs, &case.rhs])),
            ),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Every node of these statements, each before its children.
pub fn below<'a>(statements: impl Iterator<Item = &'a Stmt>) -> Vec<ASTNode<'a>> {
    let mut stack: Vec<ASTNode<'a>> = statements.map(ASTNode::Stmt).collect();
    stack.reverse();
    let mut found = Vec::new();
    while let Some(node) = stack.pop() {
        found.push(node);
        stack.extend(children(node).into_iter().rev());
    }
    found
}

/// The call that a node is, with its position; operators are not calls.
pub fn call<'a>(node: ASTNode<'a>) -> Option<(&'a FnCallExpr, Position, bool)> {
    let (call, at, method) = match node {
        ASTNode::Expr(Expr::FnCall(call, at)) => (call, *at, false),
        ASTNode::Expr(Expr::MethodCall(call, at)) => (call, *at, true),
        ASTNode::Stmt(Stmt::FnCall(call, at)) => (call, *at, false),
        _ => return None,
    };
    (!call.is_operator_call()).then_some((&**call, at, method))
}

/// The step that a node is.
pub fn step<'a>(node: ASTNode<'a>) -> Option<(&'a CustomExpr, Position)> {
    match node {
        ASTNode::Expr(Expr::Custom(custom, at))
            if custom.tokens.first().is_some_and(|word| STEP_WORDS.contains(&word.as_str())) =>
        {
            Some((&**custom, *at))
        }
        _ => None,
    }
}

/// The step, or `ensure` with its blocks, that a node is.
pub fn block_word<'a>(node: ASTNode<'a>) -> Option<(&'a CustomExpr, Position)> {
    step(node).or_else(|| ensure(node))
}

/// The `ensure` that a node is.
pub fn ensure<'a>(node: ASTNode<'a>) -> Option<(&'a CustomExpr, Position)> {
    match node {
        ASTNode::Expr(Expr::Custom(custom, at))
            if custom.tokens.first().is_some_and(|word| word.as_str() == ENSURE) =>
        {
            Some((&**custom, *at))
        }
        _ => None,
    }
}

/// The block of a step; of `ensure` that of its clean-up.
pub fn step_block(step: &CustomExpr) -> Option<&StmtBlock> {
    step.inputs.iter().rev().find_map(|input| match input {
        Expr::Stmt(block) => Some(&**block),
        _ => None,
    })
}

/// The name of the closure that an expression makes, and the outer variables that it captures.
///
/// One that captures nothing is a constant; one that does is a block that shares the variables and curries them.
pub fn closure(expr: &Expr) -> Option<(String, Vec<&str>)> {
    match expr {
        Expr::DynamicConstant(value, _) => {
            let pointer = value.read_lock::<rhai::FnPtr>()?;
            pointer.fn_name().starts_with(CLOSURE).then(|| (pointer.fn_name().to_owned(), Vec::new()))
        }
        Expr::FnCall(call, _) if call.name == "curry" => {
            let (name, _) = closure(call.args.first()?)?;
            let captured =
                call.args.iter().skip(1).filter_map(|arg| variable(arg).map(|(name, _)| name)).collect();
            Some((name, captured))
        }
        Expr::Stmt(block) => match block.statements() {
            [Stmt::Share(_), Stmt::Expr(made)] => closure(made),
            _ => None,
        },
        _ => None,
    }
}

/// The variable that an expression is.
pub fn variable(expr: &Expr) -> Option<(&str, Position)> {
    match expr {
        Expr::Variable(variable, _, at) if variable.2.is_empty() => Some((&variable.1, *at)),
        _ => None,
    }
}

/// The variable that an assignment's left side begins with.
pub fn root(expr: &Expr) -> Option<(&str, Position)> {
    match expr {
        Expr::Dot(pair, ..) | Expr::Index(pair, ..) => root(&pair.lhs),
        other => variable(other),
    }
}

/// The member that follows the first value of a chain: `dir` in `params.dir.len()`, also of `params["dir"]`.
pub fn first_member(rhs: &Expr) -> Option<(&str, Position)> {
    match rhs {
        Expr::Property(property, at) => Some((&property.2, *at)),
        Expr::StringConstant(text, at) => Some((text, *at)),
        Expr::Dot(pair, ..) | Expr::Index(pair, ..) => first_member(&pair.lhs),
        _ => None,
    }
}
