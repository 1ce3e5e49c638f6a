"""What a code cell of a chapter is for, from its code: exercise, question or prediction."""

import ast

from course_lib.publishing import learner


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
    """``"ex2_1"`` of a cell that says only that, below imports; else an empty text."""
    match _beside_imports(tree):
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


def beside_predictions(source: str, tree: ast.Module) -> str:
    """What a cell with predictions does beside them, apart from imports; its code."""
    kept = [each for each in _beside_imports(tree) if not learner.predicted(ast.unparse(each))]
    return "\n".join(ast.get_source_segment(source, each) or "" for each in kept)


def _beside_imports(tree: ast.Module) -> list[ast.stmt]:
    return [each for each in tree.body if not isinstance(each, ast.Import | ast.ImportFrom)]
