"""Evolution and random search on tables of accuracies: what evolution keeps, and that it finds more than chance does."""

import random

import pytest

from configs import search
from pipeline.model.counting import count_architecture
from pipeline.model.scaling import architecture
from pipeline.model.variants import ScaledVariant
from pipeline.search.algorithms import ALGORITHMS
from pipeline.search.algorithms.evolution import Evolution
from pipeline.search.course import Course
from pipeline.search.judging import Judged
from pipeline.search.reward import Reward
from pipeline.search.space import Space
from pipeline.trials.trials import Outcome

SPACE = Space.around(ScaledVariant("mini0", resolution=16), search.get_config().space)
TRIALS = 100


def settings(population, tournament):
    config = search.get_config().evolution
    config.population, config.tournament = population, tournament
    return config


def test_the_oldest_dies_whatever_its_reward():
    evolution, rng = Evolution(SPACE, settings(3, 2)), random.Random(0)
    first, second, third, fourth = (SPACE.draw(rng) for _ in range(4))
    for stages, reward in ((first, 0.9), (second, 0.1), (third, 0.2)):
        evolution.tell(stages, reward)
    assert [stages for stages, _ in evolution.population] == [first, second, third]
    evolution.tell(fourth, 0.0)
    assert [stages for stages, _ in evolution.population] == [second, third, fourth]  # not the best, nor the newest


def test_the_winner_of_the_tournament_has_the_child():
    evolution, rng = Evolution(SPACE, settings(4, 60)), random.Random(0)  # 60 draws of 4: the best is among them
    members = [SPACE.draw(rng) for _ in range(4)]
    for stages, reward in zip(members, (0.3, 0.9, 0.2, 0.5)):
        evolution.tell(stages, reward)
    for _ in range(20):
        child = evolution.ask(rng)
        assert sum(one != other for one, other in zip(child, members[1])) == 1


def table(stages):
    """A made-up accuracy: each stage is best with one kind of blocks, kernel, expansion and squeeze."""
    wanted = {"block": "mbconv", "kernel_size": 5, "expand_ratio": 4, "se_ratio": 0.25, "repeats": 2}
    right = sum(getattr(stage, name) == value for stage in stages for name, value in wanted.items())
    return 0.5 + 0.5 * right / (len(stages) * len(wanted))


def run(name, seed, in_flight=1):
    """Returns the course of a search, and its best reward, with the counted cost."""
    target = count_architecture(architecture("mini0"), 10).macs
    reward = Reward("soft", target, -0.07)
    rewards = []

    def judged(variant):
        stages = next(each for each in course._stages if SPACE.variant(each) == variant)
        cost = count_architecture(architecture(str(variant)), 10).macs
        accuracy = table(stages)
        rewards.append(reward(accuracy, cost))
        return Judged(variant, cost, Outcome(accuracy), rewards[-1])

    algorithm = ALGORITHMS[name](SPACE, settings(20, 5))
    course = Course(name, seed, algorithm, SPACE, lambda _: None, trials=TRIALS, in_flight=in_flight)
    course.advance(judged)
    return course, max(rewards)


@pytest.mark.slow
def test_evolution_finds_more_than_random_search():
    better = sum(run("evolution", seed)[1] > run("random", seed)[1] for seed in range(12))
    assert better >= 10  # by chance in 2 % of all cases


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_course_is_decided_by_its_seed_and_proposes_nothing_twice(name):
    course, _ = run(name, 0)
    assert run(name, 0)[0].proposed == course.proposed
    assert run(name, 1)[0].proposed != course.proposed
    assert len(set(course.proposed)) == len(course.proposed) == TRIALS


def test_proposals_do_not_depend_on_which_trial_ends_first():
    """With 4 in flight, proposal i must be the same whether the results after i - 4 are known or not."""
    outcomes, rng = {}, random.Random(0)

    def judged(variant):
        top1 = outcomes.get(variant)
        return None if top1 is None else Judged(variant, 1.0, Outcome(top1), top1)

    def course():
        return Course(
            "evolution",
            0,
            Evolution(SPACE, settings(5, 2)),
            SPACE,
            lambda _: None,
            trials=30,
            in_flight=4,
        )

    slow = course()
    slow.advance(judged)
    assert len(slow.proposed) == 4
    while len(outcomes) < 30:
        ready = [variant for variant in slow.proposed if variant not in outcomes]
        outcomes[rng.choice(ready)] = rng.random()  # in any order
        slow.advance(judged)
    again = course()
    again.advance(judged)  # everything is known at once
    assert again.proposed == slow.proposed
    assert len(again.proposed) == 30
