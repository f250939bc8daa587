"""What matplotlib shows comes back as typed charts."""

import base64

from daytona import (
    BarChart,
    BoxAndWhiskerChart,
    ChartType,
    CompositeChart,
    LineChart,
    PieChart,
    ScatterChart,
)

from kit import client, close, now, params, same

PROGRAM = """
import matplotlib
import matplotlib.pyplot as plt

plt.figure()
plt.plot([1, 2, 3], [4, 5, float("nan")], label="first")
plt.plot([1, 2], [7, 8.5], label="second")
plt.title("Lines"); plt.xlabel("time"); plt.ylabel("size"); plt.yscale("log")
plt.show()

plt.scatter([1, 2], [3, 4], label="dots"); plt.title("Dots"); plt.show()
plt.bar(["a", "b"], [10, 2.5], label="bars"); plt.title("Bars"); plt.show()
plt.pie([1, 3], labels=["small", "large"]); plt.title("Pie"); plt.show()
plt.boxplot([[1, 2, 3, 4, 100]]); plt.title("Boxes"); plt.show()

figure, (left, right) = plt.subplots(1, 2)
figure.suptitle("Both")
left.plot([0, 1], [0, 1]); left.set_title("Left")
right.bar(["x"], [1]); right.set_title("Right")
plt.show()
print("shown")
"""


async def scenario():
    daytona = client()
    sandbox = await now(daytona.create(params(language="python")))
    done = await now(sandbox.process.code_run(PROGRAM))
    same((done.exit_code, done.result), (0, "shown\n"))
    found = done.artifacts.charts
    kinds = [LineChart, ScatterChart, BarChart, PieChart, BoxAndWhiskerChart, CompositeChart]
    same([type(chart) for chart in found], kinds)
    same([chart.title for chart in found], ["Lines", "Dots", "Bars", "Pie", "Boxes", "Both"])
    for chart in found:
        same(base64.b64decode(chart.png)[:8], b"\x89PNG\r\n\x1a\n")
    line, scatter, bar, pie, boxes, both = found

    same((line.type, line.x_label, line.y_label, line.y_scale), (ChartType.LINE, "time", "size", "log"))
    lines = [(one.label, one.points) for one in line.elements]
    same(lines, [("first", [[1, 4], [2, 5]]), ("second", [[1, 7], [2, 8.5]])])
    assert all(isinstance(tick, (int, float)) for tick in line.x_ticks), line.x_ticks
    same(len(line.x_ticks), len(line.x_tick_labels))
    same([(one.label, one.points) for one in scatter.elements], [("dots", [[1, 3], [2, 4]])])
    bars = [(one.label, one.group, one.value) for one in bar.elements]
    same(bars, [("a", "bars", "10"), ("b", "bars", "2.5")])
    same([one.label for one in pie.elements], ["small", "large"])
    same([round(one.angle) for one in pie.elements], [90, 270])
    (box,) = boxes.elements
    same((box.min, box.first_quartile, box.median, box.third_quartile, box.max), (1, 2, 3, 4, 4))
    same(box.outliers, [100])
    parts = [part.model_dump(by_alias=True) for part in both.elements]
    same([(part["type"], part["title"]) for part in parts], [("line", "Left"), ("bar", "Right")])
    await now(sandbox.delete())
    await close(daytona)
