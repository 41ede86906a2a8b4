"""CPU seconds and memory of server processes, with all their descendants, from /proc."""

import os
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
MB = 1 / 1024


def parse(spec):
    """'web=12,worker=34', '12,34' or '@FILE' (one 'name=pid' a line) -> {name: pid}"""
    if not spec:
        return {}
    text = Path(spec[1:]).read_text().replace("\n", ",") if spec.startswith("@") else spec
    pairs = [item.rpartition("=") for item in text.split(",") if item.strip()]
    return {name or f"pid{pid}": int(pid) for name, _, pid in pairs}


def _stat(pid):
    """(parent, CPU ticks of the process and of its children already waited for)"""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), sum(int(value) for value in fields[11:15])


def _trees(roots):
    stats = {int(name): stat for name in os.listdir("/proc") if name.isdigit() and (stat := _stat(name))}
    children = {}
    for pid, (parent, _) in stats.items():
        children.setdefault(parent, []).append(pid)
    trees = {}
    for name, root in roots.items():
        tree = todo = [root] if root in stats else []
        while todo:
            todo = [child for pid in todo for child in children.get(pid, ())]
            tree = tree + todo
        trees[name] = tree
    return stats, trees


def cpu(roots):
    """{name: CPU seconds so far}; processes that ended count through the parent that waited for them."""
    stats, trees = _trees(roots)
    return {name: sum(stats[pid][1] for pid in tree) / TICK for name, tree in trees.items()}


def cpu_since(before, roots):
    spent = {name: round(now - before.get(name, 0), 2) for name, now in cpu(roots).items()}
    return {**spent, "total": round(sum(spent.values()), 2)}


def busy():
    """CPU seconds spent by the whole machine, steal by a hypervisor included."""
    values = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(values) - values[3] - values[4]) / TICK  # without idle and iowait


def memory(roots):
    """{name: {"rss_mb", "pss_mb", "processes"}} with a total. PSS divides shared pages among their users."""
    _, trees = _trees(roots)
    result = {}
    for name, tree in trees.items():
        rss = pss = 0
        for pid in tree:
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
            rss, pss = rss + sizes["Rss"], pss + sizes["Pss"]
        result[name] = {"rss_mb": round(rss * MB, 1), "pss_mb": round(pss * MB, 1), "processes": len(tree)}
    result["total"] = {key: round(sum(r[key] for r in result.values()), 1) for key in ("rss_mb", "pss_mb", "processes")}
    return result
