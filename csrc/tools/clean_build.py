"""The build of a wheel, without files that an older version of the source left in the folder build/."""

from __future__ import annotations

import shutil

from setuptools.command.build import build


class CleanBuild(build):
    """The command `build` of setuptools, begun in an empty folder.

    It copies the packages into build/lib. A wheel holds whatever lies there, also a module that an earlier build copied
    and that the source no longer has. The objects of the compiler lie elsewhere and are kept.
    """

    def run(self) -> None:
        """Remove the last build's copy, and build."""
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
