"""Texts of recipes as people have them: written out here with the published values, comments and spellings."""

from __future__ import annotations

DPO_FULL_MICRO = """\
## Run config
run:
  name: "my-dpo-micro-job"             # what the run is called
  model_type: "amazon.nova-micro-v1:0:128k"
  model_name_or_path: "nova-micro/prod"
  replicas: 2                          # 2, 4 or 8
  data_s3_path: s3://my-bucket/input.jsonl
  validation_data_s3_path: s3://my-bucket/validation.jsonl
  output_s3_path: s3://my-bucket/output

## Training specific configs
training_config:
  max_length: 32768
  global_batch_size: 64
  trainer:
    max_epochs: 2
  model:
    hidden_dropout: 0.0
    attention_dropout: 0.0
    ffn_dropout: 0.0
    optim:
      lr: 1e-5
      name: distributed_fused_adam
      adam_w_mode: true
      eps: 1e-06
      weight_decay: 0.0
      betas:
        - 0.9
        - 0.999
      sched:
        warmup_steps: 10
        constant_steps: 0
        min_lr: 1e-6
    dpo_cfg:
      beta: 0.1
    peft:
      peft_scheme: null
"""

DPO_LORA_LITE = """\
## Run config
run:
  name: "my-lora-run"
  model_type: "amazon.nova-lite-v1:0:300k"
  model_name_or_path: "nova-lite/prod"
  replicas: 4                          # {4, 8, 16}
  data_s3_path: s3://my-bucket/input.jsonl
  validation_data_s3_path: s3://my-bucket/validation.jsonl
  output_s3_path: s3://my-bucket/output

## Training specific configs
training_config:
  max_length: 16384
  global_batch_size: 64
  trainer:
    max_epochs: 2
  model:
    hidden_dropout: 0.0
    attention_dropout: 0.0
    ffn_dropout: 0.0
    optim:
      lr: 1e-5
      name: distributed_fused_adam
      adam_w_mode: true
      eps: 1e-08
      weight_decay: 0.01
      betas:
        - 0.9
        - 0.999
      sched:
        warmup_steps: 10
        constant_steps: 0
        min_lr: 1e-6
    dpo_cfg:
      beta: 0.01
    peft:
      peft_scheme: "lora"
      lora_tuning:
        loraplus_lr_ratio: 20.0
        alpha: 64
        adapter_dropout: 0.01
"""

SFT_NOVA_2_LORA = """\
run:
  name: my-lora-sft-run
  model_type: amazon.nova-2-lite-v1:0:256k
  model_name_or_path: nova-lite-2/prod
  data_s3_path: s3://my-bucket-name/train.jsonl
  validation_data_s3_path: ""
  validation_data_s3_path_list: {}
  replicas: 1
  output_s3_path: s3://my-bucket-name/outputs/
  mlflow_tracking_uri: ""
  mlflow_experiment_name: my-lora-sft-experiment
  mlflow_run_name: my-lora-sft-run
training_config:
  max_steps: 100
  save_steps: ${oc.select:training_config.max_steps}
  save_top_k: 5
  max_length: 32768
  global_batch_size: 32
  reasoning_enabled: true
  val_check_interval: 2500
  limit_val_batches: 2
  lr_scheduler:
    warmup_steps: 15
    min_lr: 1e-6
  optim_config:
    lr: 1e-5
    weight_decay: 0.0
    adam_beta1: 0.9
    adam_beta2: 0.95
  peft:
    peft_scheme: "lora"
    lora_tuning:
      alpha: 64
      lora_plus_lr_ratio: 64.0
  model_importance_score:
    fine_tuned_model: 1.0
"""

SFT_NOVA_2_FULL = SFT_NOVA_2_LORA.replace(
    """    peft_scheme: "lora"
    lora_tuning:
      alpha: 64
      lora_plus_lr_ratio: 64.0
""",
    """    peft_scheme: "null"
""",
).replace("replicas: 1", "replicas: 4")

BASES = {
    "nova-micro": ("amazon.nova-micro-v1:0:128k", "nova-micro/prod"),
    "nova-lite": ("amazon.nova-lite-v1:0:300k", "nova-lite/prod"),
    "nova-pro": ("amazon.nova-pro-v1:0:300k", "nova-pro/prod"),
}


def nova_1(
    *,
    model: str,
    dpo: bool,
    lora: bool,
    replicas: int,
    max_length: int,
    batch: int,
    epochs: int,
    lr: str,
    min_lr: str,
    eps: str,
    decay: float,
) -> str:
    """The text of a published Nova 1.0 recipe."""
    model_type, base = BASES[model]
    kind = "lora" if lora else "fullrank"
    tail = "    dpo_cfg:\n      beta: 0.1 # Limits: [0.001, 0.5]\n" if dpo else ""
    alpha, ratio = (64, 20.0) if dpo else (128, 16.0)
    tail += "    peft:\n"
    tail += (
        f"""      peft_scheme: "lora"
      lora_tuning:
        loraplus_lr_ratio: {ratio}
        alpha: {alpha}
        adapter_dropout: 0.01
"""
        if lora
        else "      peft_scheme: null\n"
    )
    return f"""\
run:
  name: "my-{kind}-run" # A name
  model_type: "{model_type}"
  model_name_or_path: "{base}"
  replicas: {replicas}
  data_s3_path: ""
  output_s3_path: ""
  mlflow_tracking_uri: ""
  mlflow_experiment_name: "my-{kind}-experiment"
  mlflow_run_name: "my-{kind}-run"
training_config:
  max_length: {max_length}
  global_batch_size: {batch}
  trainer:
    max_epochs: {epochs}
  model:
    hidden_dropout: 0.0
    attention_dropout: 0.0
    ffn_dropout: 0.0
    optim:
      lr: {lr}
      name: distributed_fused_adam
      adam_w_mode: true
      eps: {eps}
      weight_decay: {decay}
      betas:
        - 0.9
        - 0.999
      sched:
        warmup_steps: 10
        constant_steps: 0
        min_lr: {min_lr}
{tail}"""


def _dpo(model: str, *, lora: bool, replicas: int, max_length: int, batch: int) -> str:
    return nova_1(
        model=model, dpo=True, lora=lora, replicas=replicas, max_length=max_length, batch=batch,
        epochs=2 if lora else 3, lr="1e-5", min_lr="1e-6", eps="1e-08", decay=0.01,
    )  # fmt: skip


def _sft(model: str, *, lora: bool, replicas: int, max_length: int, batch: int, epochs: int) -> str:
    return nova_1(
        model=model, dpo=False, lora=lora, replicas=replicas, max_length=max_length, batch=batch, epochs=epochs,
        lr="1e-5" if lora else "5e-6", min_lr="1e-6" if lora else "5e-7", eps="1e-06", decay=0.0,
    )  # fmt: skip


# name: (an instance type that it is published for, its text)
PUBLISHED: dict[str, tuple[str, str]] = {
    "nova_micro_1_0_p5_p4d_gpu_dpo": ("ml.p5.48xlarge", _dpo("nova-micro", lora=False, replicas=2, max_length=16384, batch=64)),
    "nova_micro_1_0_p5_p4d_gpu_lora_dpo": ("ml.p5.48xlarge", _dpo("nova-micro", lora=True, replicas=2, max_length=16384, batch=64)),
    "nova_micro_1_0_g5_g6_12x_gpu_lora_dpo": ("ml.g5.12xlarge", _dpo("nova-micro", lora=True, replicas=1, max_length=4096, batch=64)),
    "nova_micro_1_0_g5_g6_48x_gpu_lora_dpo": ("ml.g6.48xlarge", _dpo("nova-micro", lora=True, replicas=1, max_length=4096, batch=64)),
    "nova_lite_1_0_p5_p4d_gpu_dpo": ("ml.p5en.48xlarge", _dpo("nova-lite", lora=False, replicas=4, max_length=16384, batch=64)),
    "nova_lite_1_0_p5_p4d_gpu_lora_dpo": ("ml.p4d.24xlarge", _dpo("nova-lite", lora=True, replicas=4, max_length=16384, batch=64)),
    "nova_lite_1_0_g5_g6_48x_gpu_lora_dpo": ("ml.g5.48xlarge", _dpo("nova-lite", lora=True, replicas=1, max_length=4096, batch=64)),
    "nova_pro_1_0_p5_gpu_dpo": ("ml.p5.48xlarge", _dpo("nova-pro", lora=False, replicas=6, max_length=16384, batch=32)),
    "nova_pro_1_0_p4d_gpu_dpo": ("ml.p4d.24xlarge", _dpo("nova-pro", lora=False, replicas=12, max_length=16384, batch=32)),
    "nova_pro_1_0_p5_p4d_gpu_lora_dpo": ("ml.p5.48xlarge", _dpo("nova-pro", lora=True, replicas=6, max_length=16384, batch=32)),
    "nova_micro_1_0_p5_p4d_gpu_sft": ("ml.p5.48xlarge", _sft("nova-micro", lora=False, replicas=2, max_length=32768, batch=16, epochs=1)),
    "nova_micro_1_0_g5_g6_48x_gpu_sft": ("ml.g5.48xlarge", _sft("nova-micro", lora=False, replicas=1, max_length=4096, batch=64, epochs=2)),
    "nova_micro_1_0_p5_p4d_gpu_lora_sft": ("ml.p5.48xlarge", _sft("nova-micro", lora=True, replicas=2, max_length=32768, batch=64, epochs=2)),
    "nova_micro_1_0_g5_g6_12x_gpu_lora_sft": ("ml.g6.12xlarge", _sft("nova-micro", lora=True, replicas=1, max_length=8192, batch=64, epochs=2)),
    "nova_lite_1_0_p5_p4d_gpu_sft": ("ml.p5.48xlarge", _sft("nova-lite", lora=False, replicas=4, max_length=32768, batch=16, epochs=1)),
    "nova_lite_1_0_p5_p4d_gpu_lora_sft": ("ml.p5.48xlarge", _sft("nova-lite", lora=True, replicas=4, max_length=32768, batch=64, epochs=2)),
    "nova_lite_1_0_g5_g6_48x_gpu_lora_sft": ("ml.g5.48xlarge", _sft("nova-lite", lora=True, replicas=1, max_length=8192, batch=64, epochs=2)),
    "nova_pro_1_0_p5_gpu_sft": ("ml.p5.48xlarge", _sft("nova-pro", lora=False, replicas=6, max_length=32768, batch=16, epochs=2)),
    "nova_pro_1_0_p5_p4d_gpu_lora_sft": ("ml.p4d.24xlarge", _sft("nova-pro", lora=True, replicas=6, max_length=32768, batch=32, epochs=2)),
    "nova_lite_2_0_p5_gpu_lora_sft": ("ml.p5.48xlarge", SFT_NOVA_2_LORA),
    "nova_lite_2_0_p5_gpu_sft": ("ml.p4d.24xlarge", SFT_NOVA_2_FULL),
}  # fmt: skip
