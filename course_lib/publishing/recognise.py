"""What a code cell of a chapter is for, told from its code: an exercise, a question, a prediction."""

import ast


def parsed(source: str) -> ast.Module | None:
    """The cell's syntax tree; None for cells with magic commands."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def only_exercise_imports(tree: ast.Module) -> bool:
    """Whether a cell does nothing but fetch exercises and questions."""
    return bool(tree.body) and all(
        isinstance(each, ast.ImportFrom)
        and (each.module or "").startswith("course_lib.exercises.chapter_")
        for each in tree.body
    )


def lone_name(tree: ast.Module) -> str:
    """``"ex2_1"`` of a cell that says only that; else an empty text."""
    match tree.body:
        case [ast.Expr(ast.Name(name))]:
            return name
    return ""


def answered(tree: ast.Module) -> str:
    """``"ex2_1"`` of a cell that checks it, ``"q2_1"`` of one that answers it; else nothing."""
    for statement in tree.body:
        match statement:
            case ast.Expr(ast.Call(ast.Attribute(ast.Name(name), "check" | "answer"))):
                return name
    return ""


def guesses(tree: ast.Module) -> list[str]:
    """The names in a cell that only asks for predictions."""
    found = []
    for statement in tree.body:
        match statement:
            case ast.Expr(ast.Call(ast.Name("predict"), [ast.Constant(name), *_])):
                found.append(str(name))
    return found if len(found) == len(tree.body) else []
