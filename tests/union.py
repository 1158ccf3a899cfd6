"""Run under torchrun: two ranks with half of a batch each give the terms and gradients of one rank with all of it, in fp64.

Every method gets the same networks, images and noise on both ways; batch normalisation of G, D and S, which stays of each rank's
own, looks at running statistics here.
"""

import torch
from torch import distributed, nn

from stages.engine import runtime as rt
from stages.engine.players import turns
from stages.losses import distillation
from stages.methods.blocks.rank_statistics import union_moments
from stages.methods.blocks.terms import weighted
from stages.methods.sskd import turned
from stages.networks.taps import pooled
from tests.small import CPU, SMALL, method

BATCH = 8
ON_POOL = ("odsd", "rkd", "sp", "sskd")
NAMES = ("mosaickd", "dfad", "dafl", "dfq", "deepinversion", "cmi", "fast", "augkd", "cfl", *ON_POOL)


def share_of(runtime):
    return slice(runtime.rank * BATCH // 2, (runtime.rank + 1) * BATCH // 2) if runtime.world > 1 else slice(None)


def prepared(name, runtime, **more):
    """The method with its batch norms, but T's, on running statistics, and a bank that is not empty."""
    torch.manual_seed(0)
    params = {"cmi": {"bank": 20, "negatives": 40}, "dfad": {"damped": True}}.get(name, {})
    game = method(name, {**SMALL.get(name, {}), **params, **more}, batch=BATCH, runtime=runtime)
    torch.manual_seed(1)
    for module in [*game.student.net.modules(), *game.teacher.modules()]:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for player in game.players.values():
        player.net.eval()
    if name == "cmi":
        width = game.bank.rows["local"].shape[1]
        rows = [torch.randn(6, width) for _ in range(2)]
        mine = slice(3 * runtime.rank, 3 * runtime.rank + 3) if runtime.world > 1 else slice(None)
        game.bank.append(local=rows[0][mine], views=rows[1][mine])
    return game


def learners(name, game):
    """The players that the loss trains, beside what makes images."""
    if name == "sskd":
        return [game.student, game.student_head]
    return game.heads if name == "cmi" else game.learners if name in (*ON_POOL, "cfl") else []


def loss_of(name, game, images, labels):
    """The sum of a method's terms of given images: of its synthesis, or of its student's step. No view is drawn."""
    if name in ON_POOL:
        teacher = game.watch.teacher(images)
        if name == "sskd":  # four quarters of one image are a rank's rows
            copies = torch.cat([turned(images, quarters) for quarters in range(4)])
            with turns(learners(name, game)):
                similarity = game.similarity(game.student_head(game.watch.student(copies).pooled))
                target = game.similarity(game.watch.teacher(copies).pooled.detach())
                return distillation.kl_divergence(target, similarity)
        with turns(learners(name, game)):
            if name != "odsd":
                return game.term(game.watch.student(images), teacher, torch.arange(len(images)))
            return weighted(game.terms(teacher, game.watch.student(torch.cat([images, images.flip(3)]))))
    if name == "cfl":
        with turns(game.learners):
            return weighted(game.terms(game.observe(images)))
    if name == "augkd":
        return weighted(game.generator_terms(images))
    if name == "fast":
        return weighted(game.inverter.terms(images, labels, game.asked)[0])
    if name in ("cmi", "deepinversion"):
        teacher, heard = game.guidance.norms.ask(images)
        terms = game.guidance.terms(images, teacher, labels, union_moments(heard, game.setting.runtime), game.asked)
        if name == "cmi":
            terms["contrast"] = (0.8, game._contrast(pooled(game.guidance.norms.ask(images.flip(3))[1]), pooled(heard)))
        return weighted(terms)
    return weighted(game.terms(images))


def result(name, runtime, images, labels):
    """The loss, and its gradients: to this rank's images, and to what learns from it, averaged over the ranks."""
    game = prepared(name, runtime)
    share = share_of(runtime)
    mine = images[share].clone().requires_grad_()
    torch.manual_seed(2)
    loss = loss_of(name, game, mine, labels[share])
    parameters = [p for player in learners(name, game) for p in player.parameters]
    for parameter in parameters:
        parameter.grad = None
    loss.backward()
    runtime.average_([p.grad for p in parameters if p.grad is not None])
    to_images = None if mine.grad is None else mine.grad / runtime.world
    return runtime.mean(loss), to_images, [p.grad for p in parameters if p.grad is not None], share


def synthesised(runtime, labels):
    """Fast's images of one synthesis, this rank's, and its meta-generator after three inner steps with all that they settle."""
    game = prepared("fast", runtime, steps=3)
    torch.manual_seed(5)
    torch.randn(runtime.rank * BATCH // 2, game.params.latent)  # what the ranks before draw
    images, _ = game.synthesise(labels[share_of(runtime)])
    return images, [*game.inverter.generator.parameters]


def main():
    torch.set_default_dtype(torch.float64)
    with rt.running("fp32") as runtime:
        assert runtime.world == 2
        torch.manual_seed(3)
        images, labels = torch.rand(BATCH, 1, 16, 16), torch.arange(BATCH) % 10
        for name in NAMES:
            loss, to_images, gradients, share = result(name, runtime, images, labels)
            alone, to_all, expected, _ = result(name, CPU, images, labels)
            torch.testing.assert_close(loss, alone, rtol=1e-10, atol=1e-12, msg=f"{name}: loss {loss} {alone}")
            if to_all is not None:
                torch.testing.assert_close(to_images, to_all[share], rtol=1e-8, atol=1e-12)
            assert len(gradients) == len(expected)
            for one, other in zip(gradients, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)
            if name == "fast":
                one, moved = synthesised(runtime, labels)
                other, expected = synthesised(CPU, labels)
                torch.testing.assert_close(one, other[share], rtol=1e-7, atol=1e-9)
                for mine, theirs in zip(moved, expected, strict=True):
                    torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)
            distributed.barrier()
            if runtime.rank == 0:
                print(f"{name}: two ranks are as one")


if __name__ == "__main__":
    main()
