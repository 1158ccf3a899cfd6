"""The feature-matching family: every loss against a naive loop, every method's step against a plain re-computation."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from stages.datasets.images import Augment, augmented
from stages.engine import runtime as rt
from stages.losses import representation
from stages.methods.balanced import even_rows
from stages.methods.bases.feature_matching import paired
from stages.methods.bases.method import Rescheduled
from stages.methods.blocks.noise import Adaptation
from stages.methods.crd import Bank
from stages.methods.dfnd import class_weights
from stages.methods.fitnet import regressor
from stages.methods.odsd import largest
from stages.networks.build import build
from stages.networks.normalize import Normalized
from stages.networks.taps import stages
from stages.support.errors import UserError
from tests.small import CPU, HINTS, MEAN, STD, method


@pytest.fixture
def vectors():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, 8, 8, generator=generator), torch.randn(4, 7, 4, 4, generator=generator)


def unit(v):
    return v / v.norm()


def test_attention_is_where_the_mean_square_lies(maps):
    s, t = maps
    total = 0.0
    for mine, theirs in zip(s, t, strict=True):
        small = F.avg_pool2d(mine[None], 2)[0]
        a, b = ((m**2).mean(0).flatten() for m in (small, theirs))
        total += float(((a / a.norm() - b / b.norm()) ** 2).mean())
    assert representation.attention(s, t).item() == pytest.approx(total / 4, rel=1e-5)


def test_similarity_compares_rows_of_gram_matrices(maps):
    s, t = maps
    grams = []
    for x in (s, t):
        gram = torch.tensor([[float((a * b).sum()) for b in x] for a in x])
        grams.append(torch.stack([unit(row) for row in gram]))
    expected = ((grams[0] - grams[1]) ** 2).sum() / 16
    assert representation.similarity(s, t).item() == pytest.approx(expected.item(), rel=1e-4)


def test_relations_of_distance_and_angle_equal_loops_over_pairs_and_triplets(vectors):
    s, t = vectors
    tables = []
    for f in (s, t):
        d = torch.tensor([[float((a - b).norm()) for b in f] for a in f])
        tables.append(d / d[d > 0].mean())
    smooth = F.smooth_l1_loss(*tables)
    assert representation.relation_distance(s, t).item() == pytest.approx(smooth.item(), rel=1e-5)

    def cosine(f, i, j, k):
        a, b = f[j] - f[i], f[k] - f[i]
        return float(a @ b / (a.norm() * b.norm())) if i not in (j, k) else 0.0

    n = len(s)
    cosines = [torch.tensor([cosine(f, i, j, k) for i in range(n) for j in range(n) for k in range(n)]) for f in (s, t)]
    assert representation.relation_angle(s, t).item() == pytest.approx(F.smooth_l1_loss(*cosines).item(), rel=1e-5)


def test_relations_care_for_neither_order_nor_scale(vectors, maps):
    s, t = vectors
    order = torch.randperm(len(s), generator=torch.Generator().manual_seed(0))
    for loss in (representation.relation_distance, representation.relation_angle):
        assert loss(s[order], t[order]).item() == pytest.approx(loss(s, t).item())
        assert loss(3 * s, t).item() == pytest.approx(loss(s, t).item())
    order = order[order < 4]
    assert representation.similarity(maps[0][order], maps[1][order]).item() == pytest.approx(
        representation.similarity(*maps).item(), rel=1e-4
    )


def test_losses_on_features_vanish_where_student_and_teacher_agree(vectors, maps):
    v, m = vectors[0], maps[0]
    assert representation.attention(m, m) == representation.similarity(m, m) == 0
    assert representation.relation_distance(v, v) == representation.relation_angle(v, v) == 0


@pytest.mark.parametrize("labels", [None, [0, 1, 0, 2, 2, 2]])
def test_contrasts_equal_loops_over_rows(vectors, labels):
    u, v = (F.normalize(x, dim=1) for x in vectors)
    n, tau = len(u), 0.3
    both, double = torch.cat([u, v]), None if labels is None else labels * 2
    total = 0.0
    for i in range(2 * n):
        match = (i + n) % (2 * n)
        rest = [j for j in range(2 * n) if j not in (i, match) and (double is None or double[i] != double[j])]
        scores = [math.exp(float(both[i] @ both[j]) / tau) for j in [match, *rest]]
        total -= math.log(scores[0] / sum(scores))
    known = None if labels is None else torch.tensor(labels)
    assert representation.two_views(u, v, tau, known).item() == pytest.approx(total / (2 * n))

    total = 0.0
    for a, b in ((u, v), (v, u)):
        for i in range(n):
            rest = [j for j in range(n) if j != i and (labels is None or labels[i] != labels[j])]
            scores = [math.exp(float(a[i] @ b[j]) / tau) for j in [i, *rest]]
            total -= math.log(scores[0] / sum(scores))
    assert representation.across(u, v, tau, known).item() == pytest.approx(total / (2 * n))


def test_noise_contrast_is_the_likelihood_of_telling_data_from_noise():
    generator = torch.Generator().manual_seed(0)
    positive, negative = torch.rand(3, generator=generator), torch.rand(3, 4, generator=generator)
    noise, total = 4 / 50, 0.0
    for p, row in zip(positive.tolist(), negative.tolist(), strict=True):
        total -= math.log(p / (p + noise)) + sum(math.log(noise / (q + noise)) for q in row)
    assert representation.noise_contrast(positive, negative, 50).item() == pytest.approx(total / 3, rel=1e-5)


def test_similarities_of_turned_copies_and_which_rows_count(vectors):
    features = torch.cat(list(vectors))[:12].clone()  # 3 images, then 9 turned copies
    table = representation.rotation_similarity(features)
    assert table.shape == (9, 3)
    for i in range(9):
        for j in range(3):
            assert table[i, j].item() == pytest.approx(float(unit(features[3 + i]) @ unit(features[j])))
    ranks = [sum(float(x) > float(row[i % 3]) for x in row) for i, row in enumerate(table)]
    wrong = sorted((i for i in range(9) if ranks[i]), key=lambda i: ranks[i])
    for share in (0.0, 0.75, 1.0):
        kept = {i for i in range(9) if not ranks[i]} | set(wrong[: math.ceil(share * len(wrong))])
        assert set(representation.reliable(table, share).nonzero().flatten().tolist()) == kept


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("convnet_4", 16, [(4, 8), (8, 8), (16, 4)]),
        ("wrn10_2", 32, [(32, 32), (64, 16), (128, 8)]),
        ("resnet18", 32, [(64, 32), (128, 16), (256, 8), (512, 4)]),
        ("resnet20", 32, [(16, 32), (32, 16), (64, 8)]),
        ("vgg11", 32, [(128, 16), (256, 8), (512, 4), (512, 4)]),
        ("vgg11", 64, [(128, 32), (256, 16), (512, 8), (512, 4)]),
        ("torchvision.resnet18", 64, [(64, 16), (128, 8), (256, 4), (512, 2)]),
    ],
)
def test_every_network_names_its_stages(name, size, expected):
    net = Normalized(build(name, 10, (1 if "torchvision" in name else 3, size, size)), MEAN, STD).eval()
    shapes = []
    hooks = [module.register_forward_hook(lambda m, x, y: shapes.append(tuple(y.shape[1:3]))) for module in stages(net)]
    with torch.no_grad():
        net(torch.rand(1, 3, size, size) if "torchvision" not in name else torch.rand(1, 3, size, size)[:, :1])
    assert len(hooks) == len(expected)
    assert shapes == expected


def test_a_network_without_named_stages_is_refused_where_they_are_needed():
    with pytest.raises(UserError, match="names no taps"):
        stages(build("torchvision.squeezenet1_1", 10, (3, 64, 64)))


def test_losses_are_not_computed_in_half_precision(vectors, maps):
    """Under bf16 autocast, as on a GPU, every loss of full-precision features is what it is without."""
    s, t = (F.normalize(v.float(), dim=1) for v in vectors)
    cases = [
        (representation.similarity, maps),
        (representation.relation_distance, (s, t)),
        (representation.relation_angle, (s, t)),
        (lambda a, b: representation.two_views(a, b, 0.1), (s, t)),
        (lambda a, b: representation.across(a, b, 0.1), (s, t)),
        (lambda a, b: representation.rotation_similarity(torch.cat([a, b])), (s, t)),
    ]
    rt.seed(0)
    bank, noise = Bank(6, 5, 0.5, CPU), Adaptation(5, 0.9, learned=True)
    rows, others = torch.arange(6), torch.randint(6, (6, 4))
    cases.append((lambda a, b: torch.cat([x.flatten() for x in bank.scores(a, rows, others, 0.07)]), (s, t)))
    cases.append((lambda a, b: noise(a, b.argmax(1)), (s, t)))
    for loss, inputs in cases:
        exact = loss(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(loss(*inputs), exact)


def test_taps_before_an_activation_keep_their_signs():
    """VGG's activations work in place: what its taps give must be what was there before."""
    game = method("at", channels=3, size=32, teacher="vgg11", student="convnet_4")
    assert all(seen.min() < 0 for seen in game.watch.teacher_shape.maps)


@pytest.mark.parametrize(("size", "target"), [(8, 8), (8, 4), (4, 8), (8, 5)])
def test_a_regressor_ends_in_the_teachers_shape(size, target):
    student, teacher = torch.rand(2, 3, size, size), torch.rand(2, 5, target, target)
    assert regressor(student, teacher)(student).shape == teacher.shape
    with pytest.raises(UserError, match="take another student"):
        regressor(torch.rand(1, 3, 3, 3), teacher)


def test_stages_are_paired_from_the_last_backwards():
    s, t = [torch.tensor(i) for i in range(4)], [torch.tensor(10 * i) for i in range(3)]
    assert [(int(a), int(b)) for a, b in paired(s, t)] == [(1, 0), (2, 10), (3, 20)]
    assert [(int(a), int(b)) for a, b in paired(t, s)] == [(0, 1), (10, 2), (20, 3)]


def naive_look(net, images):
    """Maps, pooled vector and logits of a Normalized ConvNet, layer by layer, without hooks."""
    x, maps = (images - net.normalize.mean) / net.normalize.std, []
    for i, layer in enumerate(net.net.features):
        x = layer(x)
        if i in (2, 5, 8):
            maps.append(x.clone())
    pooled = x.mean((2, 3))
    return maps, pooled, net.net.head(pooled)


def naive_kl(t, s, tau):
    p, q = (t / tau).softmax(1), (s / tau).softmax(1)
    return tau**2 * (p * (p / q).log()).sum(1).mean()


@pytest.mark.usefixtures("fp64")
@pytest.mark.parametrize("name", HINTS)
def test_one_step_equals_a_plain_re_computation(name):
    """The terms of one step at fp64, and that the step moves the student and the heads along the gradient of their sum."""
    game = method(name, augment=Augment(crop=1, flip=True))
    twin, heads = copy.deepcopy(game.student.net), copy.deepcopy(game.players["heads"].net) if "heads" in game.players else None
    banks = copy.deepcopy(game.banks) if name == "crd" else None
    others = {}
    if name == "crd":
        inner = game._others
        game._others = lambda rows: others.setdefault("rows", inner(rows))
    before = {key: value.clone() for key, value in game.student.net.state_dict().items()}
    rt.seed(3)
    found = game.step()

    rt.seed(3)
    game.pool.seek(0)
    batch = game.pool.next()
    twin.requires_grad_(True)
    for norm in twin.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.track_running_stats = True
    s_maps, s, s_logits = naive_look(twin, batch["input"])
    with torch.no_grad():
        t_maps, t, t_logits = naive_look(game.teacher.parts[0], batch["input"])
    kd = naive_kl(t_logits, s_logits, 5.0)
    if name == "fitnet":
        feature = sum(((net(a) - b) ** 2).mean() for net, a, b in zip(heads, s_maps, t_maps, strict=True))
    elif name == "at":
        feature = sum(representation.attention(a, b) for a, b in zip(s_maps, t_maps, strict=True))
    elif name == "sp":
        feature = representation.similarity(s_maps[-1], t_maps[-1])
    elif name == "rkd":
        feature = 25 * representation.relation_distance(s, t) + 50 * representation.relation_angle(s, t)
    else:
        e_s, e_t = F.normalize(heads["student"](s), dim=1), F.normalize(heads["teacher"](t), dim=1)
        feature = 0
        for anchors, memory in ((e_s, banks["teacher"].rows), (e_t, banks["student"].rows)):
            rows = torch.cat([batch["rows"][:, None], others["rows"]], 1)
            raw = torch.stack(
                [torch.stack([(a @ memory[r] / 0.07).exp() for r in mine]) for a, mine in zip(anchors, rows, strict=True)]
            )
            raw = raw / (raw.mean().detach() * len(memory))
            noise = others["rows"].shape[1] / len(memory)
            right, wrong = raw[:, 0] / (raw[:, 0] + noise + 1e-7), noise / (raw[:, 1:] + noise + 1e-7)
            feature = feature - (right.log() + wrong.log().sum(1)).mean()
    assert found["kd"].item() == pytest.approx(kd.item(), rel=1e-9)
    assert found["feature"].item() == pytest.approx(feature.item(), rel=1e-9)
    (kd + game.params.beta * feature).backward()
    for key, parameter in twin.named_parameters():
        expected = before[key] - 0.1 * (parameter.grad + 1e-4 * before[key])
        torch.testing.assert_close(game.student.net.state_dict()[key], expected, rtol=1e-7, atol=1e-9)


@pytest.mark.usefixtures("fp64")
def test_one_step_of_odsd_equals_a_plain_re_computation():
    game = method(
        "odsd", {"schedule": Rescheduled(augment=Augment(crop=2, flip=True)), "mask_same_class": True, "noise": "topk", "k": 3}
    )
    twin, mapping = copy.deepcopy(game.student.net), copy.deepcopy(game.mapping.net)
    rt.seed(3)
    found = game.step()
    rt.seed(3)
    game.pool.seek(0)
    images = game.pool.next()["input"]
    one, other = (augmented(images, Augment(crop=2, flip=True)) for _ in range(2))
    _, t, t_logits = naive_look(game.teacher.parts[0], one)
    _, s, s_logits = naive_look(twin, torch.cat([one, other]))
    n = len(one)
    kl = 0.0
    for row_t, row_s in zip(t_logits / 4, s_logits[:n] / 4, strict=True):
        top = row_t.topk(3)
        p = top.values.softmax(0)
        kl += 16 * float((p * (p.log() - row_s.log_softmax(0)[top.indices])).sum()) / n
    u, v = F.normalize(mapping(s), dim=1).split(n)
    predicted = t_logits.argmax(1)
    assert found["kd"].item() == pytest.approx(kl, rel=1e-9)
    assert found["student_student"].item() == pytest.approx(representation.two_views(u, v, 0.1, predicted).item(), rel=1e-9)
    expected = representation.across(u, F.normalize(t, dim=1), 0.1, predicted)
    assert found["teacher_student"].item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.usefixtures("fp64")
def test_one_step_of_dfnd_equals_a_plain_re_computation():
    game = method("dfnd")
    twin = copy.deepcopy(game.student.net)
    found = game.step()
    game.pool.seek(0)
    images = game.pool.next()["input"]
    _, _, t = naive_look(game.teacher.parts[0], images)
    _, _, s = naive_look(twin, images)
    guess = t.argmax(1)
    counts = [int((game.setting.data["pool"].columns["logits"].argmax(1) == k).sum()) for k in range(10)]
    weights = torch.tensor([1 / (n + 1) if n else 0.0 for n in counts])
    weights = weights * sum(n > 0 for n in counts) / weights.sum()
    kd = torch.stack([weights[k] * naive_kl(a[None], b[None], 2.0) for k, a, b in zip(guess, t, s, strict=True)]).mean()
    q = torch.full((10, 10), 0.05 / 9) + torch.eye(10) * (0.95 - 0.05 / 9)
    mixed = s.softmax(1) @ q
    noise = -sum(weights[k] * mixed[i, k].log() for i, k in enumerate(guess)) / weights[guess].sum()
    assert found["kd"].item() == pytest.approx(kd.item(), rel=1e-9)
    assert found["noise"].item() == pytest.approx(noise.item(), rel=1e-9)
    torch.testing.assert_close(class_weights(torch.tensor([3, 0, 1])), torch.tensor([2 / 3, 0.0, 4 / 3]))


@pytest.mark.usefixtures("fp64")
def test_one_step_of_each_phase_of_sskd_equals_a_plain_re_computation():
    own = Rescheduled(augment=Augment(crop=4), augment_pool=Augment(crop=1))  # what it sees is the pool
    game = method("sskd", {"head_steps": 1, "schedule": own})
    t_head = copy.deepcopy(game.teacher_head.net)

    def batch(step):
        rt.seed(step)
        game.pool.seek(step)
        images = game.pool.next()["input"]
        return augmented(torch.cat([images.rot90(q, (2, 3)) for q in range(4)]), Augment(crop=1)), len(images)

    rt.seed(0)
    found = game.step()
    images, n = batch(0)
    table = representation.rotation_similarity(t_head(naive_look(game.teacher.parts[0], images)[1]))
    assert found["head"].item() == pytest.approx(F.cross_entropy(table, torch.arange(n).repeat(3)).item(), rel=1e-9)

    game.pool.seek(1)
    twin, t_head, s_head = (copy.deepcopy(p.net) for p in (game.student, game.teacher_head, game.student_head))
    rt.seed(1)
    found = game.step()
    images, n = batch(1)
    _, t, t_logits = naive_look(game.teacher.parts[0], images)
    _, s, s_logits = naive_look(twin, images)
    assert found["kd"].item() == pytest.approx(naive_kl(t_logits[:n], s_logits[:n], 4.0).item(), rel=1e-9)
    assert found["turned"].item() == pytest.approx(naive_kl(t_logits[n:], s_logits[n:], 4.0).item(), rel=1e-9)
    target, mine = representation.rotation_similarity(t_head(t)), representation.rotation_similarity(s_head(s))
    rows = representation.reliable(target, 0.75)
    assert found["similarity"].item() == pytest.approx(naive_kl(target[rows], mine[rows], 0.5).item(), rel=1e-9)


def test_heads_are_not_part_of_the_exported_student():
    game = method("fitnet")
    assert {id(p) for p in game.players["heads"].parameters}.isdisjoint(id(p) for p in game.setting.student.parameters())


def test_negatives_are_all_images_but_the_image_itself():
    game = method("crd", {"negatives": 2000})
    game.count = 64
    rows = torch.tensor([0, 5, 63])
    for row, others in zip(rows.tolist(), game._others(rows), strict=True):
        assert set(others.tolist()) == set(range(64)) - {row}  # 2,000 draws miss one of 63 with probability 1e-14


def test_the_memory_moves_half_way_and_stays_of_unit_length():
    rt.seed(0)
    bank = Bank(5, 4, 0.5, CPU)
    old, new = bank.rows[2].clone(), unit(torch.randn(4))
    bank.update(torch.tensor([2]), new[None])
    torch.testing.assert_close(bank.rows[2], unit(0.5 * old + 0.5 * new))
    positive, negative = bank.scores(new[None], torch.tensor([2]), torch.tensor([[0, 1]]), 0.07)
    assert torch.cat([positive, negative[0]]).mean().item() == pytest.approx(1 / 5, rel=1e-5)
    z = bank.normaliser.clone()
    bank.scores(-new[None], torch.tensor([2]), torch.tensor([[0, 1]]), 0.07)
    assert torch.equal(bank.normaliser, z)


@pytest.mark.parametrize("learned", [False, True])
def test_the_noise_matrix_is_stochastic_with_the_stated_diagonal(learned):
    net = Adaptation(5, 0.9, learned)
    torch.nn.init.normal_(net.free)
    q = net.matrix()
    torch.testing.assert_close(q.sum(1), torch.ones(5))
    torch.testing.assert_close(q.diagonal(), torch.full((5,), 0.9))
    assert (q >= 0).all()
    assert len(list(net.parameters())) == 1 + learned
    row, free = q[1].tolist(), net.free[1].exp()
    assert row[:1] + row[2:] == pytest.approx((0.1 * free / free.sum()).tolist(), rel=1e-4)


def test_a_balanced_set_holds_as_many_images_of_every_class_as_of_any_other():
    predicted = torch.cat([torch.zeros(50), torch.ones(3), torch.full((7,), 3)]).long()
    rows = even_rows(predicted, 4)
    assert torch.bincount(predicted[rows], minlength=4).tolist() == [20, 20, 0, 20]
    rare = rows[predicted[rows] == 1]
    assert torch.bincount(rare - 50).tolist() == [7, 7, 6] or sorted(torch.bincount(rare - 50).tolist()) == [6, 7, 7]
    assert len(rows[predicted[rows] == 0].unique()) == 20


def test_the_largest_logits_alone_speak():
    logits = torch.tensor([[1.0, 3.0, 2.0, -1.0]])
    p = largest(logits, 2).softmax(1)
    torch.testing.assert_close(p, torch.tensor([[0.0, math.e, 1.0, 0.0]]) / (1 + math.e))


def test_more_kept_logits_than_classes_are_refused():
    with pytest.raises(UserError, match=r"method\.odsd\.k: 11 logits of 10 classes"):
        method("odsd", {"k": 11})


def test_two_views_must_differ():
    with pytest.raises(UserError, match=r"method\.odsd: two views of one image would be the same"):
        method("odsd", {"schedule": None})


@pytest.mark.parametrize("noise", ["adaptation", "none"])
def test_the_other_ways_against_noise_run(noise):
    game = method("odsd", {"noise": noise})
    assert ("noise" in game.step()) == (noise == "adaptation")
    assert ("noise" in game.players) == (noise == "adaptation")


@pytest.mark.parametrize(("name", "stream"), [("kd_ood", "pool"), ("balanced", "pool"), ("fitnet", "pool"), ("mosaickd", "ood")])
def test_the_pool_may_have_an_augmentation_of_its_own(name, stream):
    """Digits of street numbers are not flipped; what T said of a bare image is then known."""
    own = {"schedule": {"augment": {"flip": True}, "augment_pool": {}}}
    assert not method(name, own).streams[stream].view.keywords["augment"].changes
    assert method(name, {"schedule": {"augment": {"flip": True}}}).streams[stream].view.keywords["augment"].flip
