"""From the rounds to what is shown: medians, ratios to the best, spreads."""

import statistics

# What is shown with its ratio to the best: key of a round, title, divisor for the unit, decimals, which is best.
COLUMNS = (
    ("cpu_us", "CPU µs/request", 1, 1, min),
    ("requests_per_second", "requests/s", 1, 0, max),
    ("p50_us", "p50 ms", 1000, 2, min),
    ("p99_us", "p99 ms", 1000, 2, min),
    ("rss", "RSS MiB", 1 << 20, 1, min),
)
HEAD = ["", *(cell for _, title, *_ in COLUMNS for cell in (title, "×")), "CPU spread", "user", "system", "busy", "others"]
# The share of the proxy's core that others may have before the numbers are of the machine and not of the proxy.
DISTURBED = 0.05


def summarise(rounds):
    """The median, least and most of each number."""
    return {
        key: {
            "median": statistics.median(each[key] for each in rounds),
            "min": min(each[key] for each in rounds),
            "max": max(each[key] for each in rounds),
        }
        for key in rounds[0]
    }


def extra(plain, other):
    """What a workload costs over plain, round by round, so that what the machine did meanwhile drops out."""
    return summarise(
        [
            {
                "more_us": b["cpu_us"] - a["cpu_us"],
                "ratio": b["cpu_us"] / a["cpu_us"],
                "p99_ratio": b["p99_us"] / a["p99_us"],
            }
            for a, b in zip(plain, other)
        ]
    )


def table(results):
    """One line for each peer; `results` is a list of (title, rounds), all of one workload."""
    summaries = [(title, summarise(rounds)) for title, rounds in results]
    rows = [HEAD]
    for title, summary in summaries:
        row = [title]
        for key, _, divisor, decimals, best in COLUMNS:
            top = best(other[key]["median"] for _, other in summaries)
            median = summary[key]["median"]
            row += [f"{median / divisor:.{decimals}f}", f"{median / top:.2f}"]
        cpu = summary["cpu_us"]
        row.append(f"{cpu['min']:.1f}–{cpu['max']:.1f}")
        row += [f"{summary[part]['median']:.1f}" for part in ("user_us", "system_us")]
        row += [f"{summary[part]['median']:.0%}" for part in ("busy", "others")]
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows)]
    cells = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in cells)


def disturbed(rounds):
    """A warning, if the proxies did not have their core for themselves."""
    number = sum(each["others"] > DISTURBED for each in rounds)
    if not number:
        return ""
    return f"disturbed: in {number} of {len(rounds)} turns other programs had more than {DISTURBED:.0%} of the core"


def differences(results):
    """What each further workload costs its peer over plain; `results` maps (peer, workload) to rounds."""
    lines = []
    for (peer, workload), rounds in results.items():
        plain = results.get((peer, "plain"))
        if workload == "plain" or not plain:
            continue
        cost = extra(plain, rounds)
        more, ratio, p99 = cost["more_us"], cost["ratio"], cost["p99_ratio"]
        lines.append(
            f"{peer} {workload}: {more['median']:+.1f} µs of CPU per request over plain "
            f"({more['min']:+.1f} to {more['max']:+.1f}), × {ratio['median']:.2f}; "
            f"p99 × {p99['median']:.2f} ({p99['min']:.2f} to {p99['max']:.2f})"
        )
    return "\n".join(lines)


def machine(facts, settings):
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['cores']} cores ({facts['processor']}), kernel {facts['kernel']}; proxies on core "
        f"{facts['proxy_core']}, wrk and the service on core {facts['load_core']}\n"
        f"{versions}\n"
        f"{settings['rounds']} rounds of {settings['seconds']} s, {settings['connections']} connections"
        f"{', ' + str(settings['rate']) + ' requests/s' if settings['rate'] else ''}; "
        f"medians, spread is least–most; load average before: {facts['load_average']:.2f}"
    )
