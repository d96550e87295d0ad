"""Maps the four source roots onto the `featuremill` namespace; everything else is in pyproject.toml.

Beam ships the package to workers with `--setup_file=./setup.py`.
"""

from setuptools import find_namespace_packages, setup

ROOTS = ("artifacts", "transforms", "platform", "jobs")

packages: list[str] = []
package_dir: dict[str, str] = {}
for root in ROOTS:
    for package in find_namespace_packages(where=root, include=["featuremill.*"]):
        packages.append(package)
        package_dir[package] = f"{root}/{package.replace('.', '/')}"

setup(
    packages=packages,
    package_dir=package_dir,
    package_data={"": ["py.typed", "*.yaml", "examples/*", "templates/*"]},
)
