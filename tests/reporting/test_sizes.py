"""Which tasks differ in their student alone, and what of them stands in the figure."""

import matplotlib.image

from stages.reporting.figures import sizes


def report(network, params, pool="p", steps=20, **rows):
    def seeds(found):
        made = {"identity": {"prepare": "a", "train_teacher": "t", "curate": pool, "distill": network}}
        return {str(seed): {"top1": top1, "params": params, "made": made} for seed, top1 in enumerate(found)}

    teacher = {"top1": 90.0, "params": 9000, "made": {"identity": {"prepare": "a", "train_teacher": "t"}}}
    return {
        "kind": "classification",
        "headline": "top1",
        "distill": {"student": {"network": network}, "student_steps": steps},
        "rows": {
            "teacher": {"seeds": {"0": teacher}},
            **{row: {"seeds": seeds(found)} for row, found in rows.items()},
        },
    }


def test_students_of_two_sizes_stand_beside_each_other_where_all_else_is_equal():
    reports = {
        "small": report("convnet_4", 300, kd_ood=[50.0, 52.0], fast=[70.0]),
        "large": report("convnet_8", 1100, kd_ood=[60.0], cmi=[80.0]),
        "longer": report("convnet_8", 1100, steps=40, kd_ood=[65.0]),
        "farther": report("convnet_16", 4000, pool="q", kd_ood=[40.0]),
    }
    (runs,) = sizes.comparable(reports)
    assert runs[["task", "method", "network", "params", "top1", "teacher"]].values.tolist() == [
        ["small", "kd_ood", "convnet_4", 300, 50.0, 90.0],
        ["small", "kd_ood", "convnet_4", 300, 52.0, 90.0],
        ["large", "kd_ood", "convnet_8", 1100, 60.0, 90.0],
    ]
    assert sizes.comparable({"small": reports["small"]}) == []


def test_the_figure_is_drawn_with_and_without_such_tasks(tmp_path):
    reports = {"small": report("convnet_4", 300, kd_ood=[50.0]), "large": report("convnet_8", 1100, kd_ood=[60.0, 62.0])}
    for name, shown in (("both", reports), ("none", {})):
        sizes.draw(shown, tmp_path / name)
        assert matplotlib.image.imread(tmp_path / name / "sizes.png").std() > 0.02
