"""Where compiled programs are kept, and that a program is compiled once."""

import resource

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from pipeline.runtime.compilation import CompilationCache


@pytest.fixture
def unset(monkeypatch):
    """An environment that says nothing of the cache; JAX's own settings are put back after the test."""
    options = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {option: getattr(jax.config, option) for option in options}
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    compilation_cache.reset_cache()
    yield monkeypatch
    for option, value in before.items():
        jax.config.update(option, value)
    compilation_cache.reset_cache()


def test_several_processes_share_a_directory_and_one_has_its_own(unset, tmp_path):
    unset.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert CompilationCache(None).directory == str(tmp_path / "home" / "efficientnet" / "compiled")
    assert CompilationCache("gs://bucket/run").directory == "gs://bucket/run/compiled"
    assert jax.config.jax_compilation_cache_dir == "gs://bucket/run/compiled"


def test_the_environment_decides(unset, tmp_path):
    unset.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    assert CompilationCache("gs://bucket/run").directory == str(tmp_path)
    unset.setenv("JAX_COMPILATION_CACHE_DIR", "")
    assert CompilationCache("gs://bucket/run").describe() == "compilation cache off"


def test_a_second_compilation_is_a_hit(unset, tmp_path):
    cache = CompilationCache(str(tmp_path))
    vector = jax.ShapeDtypeStruct((3,), jnp.float32)
    for _ in range(2):
        jax.jit(lambda x: jnp.cos(x) * 12.34567).lower(vector).compile()
        jax.clear_caches()
    assert (cache.hits, cache.misses) == (1, 1)
    assert f"compilation cache {tmp_path}/compiled: 1 hit(s), 1 miss(es)" == cache.describe()
    assert any((tmp_path / "compiled").iterdir())


def test_a_full_disk_leaves_no_part_of_a_program(unset, tmp_path):
    """Such a part would be tried, warned of and left as it is at every later start."""
    cache = CompilationCache(str(tmp_path))
    vector = jax.ShapeDtypeStruct((3,), jnp.float32)

    def compile_once():
        jax.jit(lambda x: jnp.cos(x) * 1.2345678).lower(vector).compile()
        jax.clear_caches()

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.warns(UserWarning, match="Error writing persistent compilation cache entry"):
            compile_once()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not any((tmp_path / "compiled").iterdir())
    compile_once()
    compile_once()
    assert (cache.hits, cache.misses) == (1, 2)
