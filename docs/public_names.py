"""Shows the reference pages where each public name is defined: packages load theirs on first use, from `_HOMES`."""

import ast

import griffe


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
