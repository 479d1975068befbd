"""Where each parameter stands in the nested YAML of the published recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.catalog import Catalog, TuningKind

if TYPE_CHECKING:
    from nova_dpo_sdk.recipes._models import Recipe

_RUN = {
    "run.name": "name",
    "run.model_type": "model",
    "run.model_name_or_path": "checkpoint",
    "run.replicas": "replicas",
    "run.data_s3_path": "data_s3_path",
    "run.validation_data_s3_path": "validation_data_s3_path",
    "run.validation_data_s3_path_list": "validation_data_s3_path_list",
    "run.output_s3_path": "output_s3_path",
    "run.mlflow_tracking_uri": "mlflow_tracking_uri",
    "run.mlflow_experiment_name": "mlflow_experiment_name",
    "run.mlflow_run_name": "mlflow_run_name",
}
_T = "training_config"
_NOVA_1 = {
    **{path: name for path, name in _RUN.items() if name != "validation_data_s3_path_list"},
    f"{_T}.max_length": "max_length",
    f"{_T}.global_batch_size": "global_batch_size",
    f"{_T}.trainer.max_epochs": "max_epochs",
    f"{_T}.model.hidden_dropout": "hidden_dropout",
    f"{_T}.model.attention_dropout": "attention_dropout",
    f"{_T}.model.ffn_dropout": "ffn_dropout",
    f"{_T}.model.optim.lr": "lr",
    f"{_T}.model.optim.name": "optimizer",
    f"{_T}.model.optim.adam_w_mode": "adam_w_mode",
    f"{_T}.model.optim.eps": "eps",
    f"{_T}.model.optim.weight_decay": "weight_decay",
    f"{_T}.model.optim.betas": "betas",
    f"{_T}.model.optim.sched.warmup_steps": "warmup_steps",
    f"{_T}.model.optim.sched.constant_steps": "constant_steps",
    f"{_T}.model.optim.sched.min_lr": "min_lr",
    f"{_T}.model.dpo_cfg.beta": "beta",
    f"{_T}.model.peft.peft_scheme": "tuning",
    f"{_T}.model.peft.lora_tuning.loraplus_lr_ratio": "tuning.loraplus_lr_ratio",
    f"{_T}.model.peft.lora_tuning.alpha": "tuning.alpha",
    f"{_T}.model.peft.lora_tuning.adapter_dropout": "tuning.adapter_dropout",
}
_NOVA_2 = {
    **_RUN,
    f"{_T}.max_steps": "max_steps",
    f"{_T}.save_steps": "save_steps",
    f"{_T}.save_top_k": "save_top_k",
    f"{_T}.max_length": "max_length",
    f"{_T}.global_batch_size": "global_batch_size",
    f"{_T}.reasoning_enabled": "reasoning_enabled",
    f"{_T}.val_check_interval": "val_check_interval",
    f"{_T}.limit_val_batches": "limit_val_batches",
    f"{_T}.lr_scheduler.warmup_steps": "warmup_steps",
    f"{_T}.lr_scheduler.min_lr": "min_lr",
    f"{_T}.optim_config.lr": "lr",
    f"{_T}.optim_config.weight_decay": "weight_decay",
    f"{_T}.optim_config.adam_beta1": "adam_beta1",
    f"{_T}.optim_config.adam_beta2": "adam_beta2",
    f"{_T}.peft.peft_scheme": "tuning",
    f"{_T}.peft.lora_tuning.alpha": "tuning.alpha",
    f"{_T}.peft.lora_tuning.lora_plus_lr_ratio": "tuning.loraplus_lr_ratio",
    f"{_T}.model_importance_score.fine_tuned_model": "fine_tuned_model",
}


def field_paths(layout: str, *, dpo: bool = True) -> dict[str, str]:
    """Every YAML path of a layout with the field that it fills, in the order in which they are written."""
    paths = _NOVA_2 if layout == "nova-2" else _NOVA_1
    return {path: name for path, name in paths.items() if dpo or name != "beta"}


def layout_of(recipe: Recipe) -> str:
    """Which layout a recipe is written in: `nova-1` or `nova-2`."""
    return Catalog.packaged().models[recipe.model].layout


def nested(recipe: Recipe) -> dict[str, Any]:
    """The recipe as nested plain values, in the published order; keys of `extra` stand last."""
    tree: dict[str, Any] = {}
    for path, name in field_paths(layout_of(recipe), dpo=hasattr(recipe, "beta")).items():
        value = _written(recipe, name)
        if value is not None or name == "tuning":
            _put(tree, path, value)
    for path, value in recipe.extra.items():
        _put(tree, path, value)
    return tree


def _written(recipe: Recipe, name: str) -> Any:
    if name == "model":
        return Catalog.packaged().models[recipe.model].model_type
    if name == "checkpoint":
        return recipe.model_name_or_path
    if name == "tuning":
        return _scheme(recipe)
    head, _, tail = name.partition(".")
    value = getattr(recipe, head, None)
    value = getattr(value, tail, None) if tail else value
    return list(value) if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType] - numbers


def _scheme(recipe: Recipe) -> str | None:
    if recipe.tuning.kind is TuningKind.LORA:
        return "lora"
    # The published full-rank recipes say null for Nova 1.0 and the word "null" for Nova 2 Lite.
    return "null" if layout_of(recipe) == "nova-2" else None


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        tree = tree.setdefault(part, {})
    tree[last] = value
