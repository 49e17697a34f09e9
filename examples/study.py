"""A study as a table: means, spread by source, and what is shown. Runs on the folder of any sweep.

cops-train -m experiment=static_prompts
python examples/study.py runs/static_prompts cops static_prompts
"""

import sys

import pandas as pd

from cops_lightning.report import compare, load


def main(folder: str, ours: str, theirs: str) -> pd.DataFrame:
    """Image AUROC by method, dataset and seed, in percent."""
    results = load(folder)
    results = results[(results["category"] == "mean") & ~results["seen"]]
    auroc = results[(results["level"] == "image") & (results["metric"] == "auroc")]
    table = 100 * auroc.pivot_table(index=["method", "dataset"], columns="seed", values="value")

    print("Mean over seeds, and their standard deviation:")
    print(pd.DataFrame({"mean": table.mean(axis=1), "sd": table.std(axis=1)}).round(2).to_string())

    by_seed = table.groupby("method").mean()
    print(f"\nSeeds move the mean over datasets by {by_seed.std(axis=1).max():.2f} points (standard deviation).")

    # Equal seeds are paired; seeds and datasets are crossed: see docs/concepts/significance.md.
    print("\n" + str(compare(results, ours, theirs)))
    for metric in ("auroc", "aupro"):
        print(compare(results, ours, theirs, "pixel", metric))
    return table


if __name__ == "__main__":
    main(*sys.argv[1:])
