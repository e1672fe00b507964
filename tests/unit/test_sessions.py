"""What a conversation's model is kept as."""

from __future__ import annotations

from gateway.memory.sessions import SessionKey, Sessions
from routers.api import Scored

KEY = SessionKey("me", "auto", "talk")
RANKING = (Scored("b", 0.9, {"cost": 0.9}, 0.7, 1e-5, 0.1, propensity=0.25), Scored("a", 0.1, {"cost": 0.1}))


async def test_a_ranking_is_kept_as_it_is_and_chance_is_forgotten() -> None:
    sessions = Sessions(10, 60, None, lambda: 0.0)
    sessions.keep(KEY, "mine", RANKING)
    (_, pinned) = sessions._entries[KEY]
    assert pinned.ranking is RANKING, "a copy of many models for each conversation is a lot of memory"
    choice = await sessions.find(KEY, ("a", "b", "c"))
    assert choice is not None
    assert [(one.name, one.score, one.opinions) for one in choice.ranking] == [("b", 0.9, {"cost": 0.9}), ("a", 0.1, {"cost": 0.1})]
    assert (choice.policy, choice.reason, choice.ranking[0].quality, choice.ranking[0].cost_usd) == ("mine", "pinned", 0.7, 1e-5)
    assert choice.ranking[0].propensity is None, "no chance has a part in it any more"
    assert await sessions.find(KEY, ("b", "c")) is None, "it ranks a model that the route has not"
