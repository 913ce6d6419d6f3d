"""Shows the reference pages what tfdist only makes when it runs: the public names, and the help of options."""

import ast
import dataclasses
import importlib

import griffe

from tfdist.options.fields import option_of


class PublicNames(griffe.Extension):
    """Adds to each package an alias per entry of its `_HOMES`, so that pages can say `::: tfdist.fit`."""

    def on_package(self, *, pkg, **_):
        """Adds the aliases once a package is loaded."""
        for module in (pkg, *pkg.modules.values()):
            homes = module.members.get("_HOMES")
            for name, home in ast.literal_eval(str(homes.value)).items() if homes else ():
                module.set_member(name, griffe.Alias(name, _target(pkg, home, name), parent=module))


def _target(pkg, home, name):
    """Returns the path of a name; a module may have the name of the function in it, as `predict`."""
    path = f"{home}.{name}"
    there = pkg.modules_collection.get_member(path)
    return f"{path}.{name}" if there.is_module else path


class OptionHelp(griffe.Extension):
    """Adds to the docstring of an option class the help of its fields, `name: type = option(default, help="…")`."""

    def on_class(self, *, cls, **_):
        """Adds the lines once a class is loaded."""
        lines = [f"    {name}: {text}" for name, member in cls.members.items() if (text := _help(member))]
        if lines and cls.docstring:
            heading = [] if "\nAttributes:\n" in cls.docstring.value else ["", "Attributes:"]
            cls.docstring.value = "\n".join([cls.docstring.value, *heading, *lines])


def _help(member):
    value = member.value if member.is_attribute else None
    if not isinstance(value, griffe.ExprCall) or str(value.function) != "option":
        return None
    # Of the class itself, because a help may be put together when the class is made.
    kind = getattr(importlib.import_module(member.parent.parent.path), member.parent.name)
    return next(option_of(field).help for field in dataclasses.fields(kind) if field.name == member.name)
