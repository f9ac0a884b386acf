"""From a video to its tokens in ten lines.

make demo                                        # trains the small model of demo_output/run, in minutes
python examples/tour.py                          # or: … tour.py VIDEO RUN
"""

import sys

from laq_model.published_weights import embedded_file
from laq_model.trained_run import open_trained_run

video = sys.argv[1] if len(sys.argv) > 1 else embedded_file("demo_pack") / "videos/moving/reach-000.webm"
run = open_trained_run(sys.argv[2] if len(sys.argv) > 2 else "demo_output/run")
actions = run.model.encode_video(video, encoder=run.video_encoder(every_n=5))
print(f"{len(actions.codes)} pairs of {video}, {run.data.frame_offset} frames apart; four codes each:")
for start, end, codes in zip(actions.current_time_s, actions.future_time_s, actions.codes, strict=True):
    print(f"{start:5.1f} s to {end:4.1f} s   " + " ".join(f"{code:4d}" for code in codes.tolist()))
