"""Phrases: how people of this world ask for things, in English and Chinese, and what small talk is made of."""

from __future__ import annotations

from collections.abc import Mapping

from nodes.nextgpt.training.world.terms import Language

MAKE: Mapping[str, Mapping[Language, tuple[str, ...]]] = {
    "image": {
        "en": (
            "Draw {}.",
            "Please draw {}.",
            "Paint {}.",
            "Show me a picture of {}.",
            "Make an image of {}.",
            "I would like to see {}.",
            "Can you draw {}?",
        ),
        "zh": ("画{}。", "请画{}。", "请给我画{}。", "生成一张图片：{}。", "我想看{}。", "你能画{}吗？"),
    },
    "audio": {
        "en": (
            "Play {}.",
            "Please play {}.",
            "Let me hear {}.",
            "Make the sound of {}.",
            "I would like to hear {}.",
            "Can you play {}?",
        ),
        "zh": ("播放{}。", "请弹奏{}。", "让我听听{}。", "生成声音：{}。", "我想听{}。", "你能弹奏{}吗？"),
    },
    "video": {
        "en": (
            "Film {}.",
            "Make a clip: {}.",
            "Make a video of {}.",
            "Show me a film of {}.",
            "I would like a clip of {}.",
            "Can you animate {}?",
        ),
        "zh": ("拍一段视频：{}。", "做一个短片：{}。", "请生成视频：{}。", "给我看一段影片：{}。", "制作动画：{}。"),
    },
}
DESCRIBE: Mapping[str, Mapping[Language, tuple[str, ...]]] = {
    "image": {
        "en": ("What is in the picture?", "Describe this picture.", "What do you see?"),
        "zh": ("图片里有什么？", "请描述这张图片。", "你看到了什么？"),
    },
    "audio": {
        "en": ("What do you hear?", "Describe this sound.", "What is being played?"),
        "zh": ("你听到了什么？", "请描述这个声音。", "在演奏什么？"),
    },
    "video": {
        "en": ("What happens in the video?", "Describe this clip.", "What is going on here?"),
        "zh": ("视频里发生了什么？", "请描述这段视频。", "这里在发生什么？"),
    },
}
AND: Mapping[Language, tuple[str, ...]] = {"en": (" ", " Then: ", " Also: "), "zh": ("", "然后", "再")}
CROSS: Mapping[tuple[str, str], Mapping[Language, tuple[str, ...]]] = {
    ("image", "audio"): {
        "en": ("What does this sound like?", "Play the sound of this picture.", "Let me hear this picture."),
        "zh": ("这听起来怎么样？", "播放这张图片的声音。", "让我听听这张图片。"),
    },
    ("audio", "image"): {
        "en": ("What does this look like?", "Draw what you hear.", "Make a picture of this sound."),
        "zh": ("这看起来怎么样？", "画出你听到的声音。", "把这个声音画成图片。"),
    },
    ("video", "audio"): {
        "en": ("What does this clip sound like?", "Play the sound of this video."),
        "zh": ("这段视频听起来怎么样？", "播放这段视频的声音。"),
    },
}
MOVE: Mapping[str, Mapping[Language, tuple[str, ...]]] = {
    "right": {"en": ("Make it move to the right.",), "zh": ("让它向右移动。",)},
    "left": {"en": ("Make it move to the left.",), "zh": ("让它向左移动。",)},
    "up": {"en": ("Make it move up.", "Make it rise."), "zh": ("让它向上移动。",)},
    "down": {"en": ("Make it move down.", "Make it sink."), "zh": ("让它向下移动。",)},
    "grows": {"en": ("Make it grow.",), "zh": ("让它变大。",)},
    "shrinks": {"en": ("Make it shrink.",), "zh": ("让它变小。",)},
    "turns": {"en": ("Make it turn.", "Make it rotate."), "zh": ("让它旋转。",)},
    "still": {"en": ("Film it, but it should not move.",), "zh": ("拍下它，让它静止不动。",)},
}
CHANGE: Mapping[str, Mapping[Language, tuple[str, ...]]] = {
    "colour": {"en": ("Now make it {}.", "Change the colour to {}."), "zh": ("现在把它变成{}。", "把颜色改成{}。")},
    "shape": {"en": ("Now make it a {}.", "Turn it into a {}."), "zh": ("现在把它换成{}。", "改成{}。")},
    "size": {"en": ("Now make it {}.", "It should be {}."), "zh": ("现在让它是{}。", "它应该是{}。")},
    "place": {"en": ("Now put it {}.", "Move it so that it is {}."), "zh": ("现在把它放到{}。", "把它移到{}。")},
}
SMALL_TALK: Mapping[Language, tuple[tuple[str, str], ...]] = {
    "en": (
        ("Hello!", "Hello! What shall I draw, play or film?"),
        ("Hi there.", "Hello! What shall I draw, play or film?"),
        ("Who are you?", "I am a small model that reads, draws, plays and films."),
        ("What can you do?", "I can draw shapes, play notes, film moving things and describe them."),
        ("Thank you.", "You are welcome."),
        ("Thanks a lot!", "You are welcome."),
        ("Goodbye.", "Goodbye!"),
        ("Which shapes do you know?", "Circle, square, triangle, star, cross, ring, heart and moon."),
        ("Which colours do you know?", "Red, orange, yellow, green, cyan, blue and purple."),
        ("Which instruments do you play?", "Flute, organ, violin and bell."),
        ("How are you?", "I am well, thank you."),
    ),
    "zh": (
        ("你好！", "你好！要我画画、弹奏还是拍视频？"),
        ("您好。", "你好！要我画画、弹奏还是拍视频？"),
        ("你是谁？", "我是一个会读、会画、会弹奏、会拍视频的小模型。"),
        ("你会做什么？", "我会画图形，弹奏音符，拍会动的东西，也会描述它们。"),
        ("谢谢。", "不客气。"),
        ("再见。", "再见！"),
        ("你认识哪些形状？", "圆形、方形、三角形、星形、十字、圆环、心形和月牙。"),
        ("你认识哪些颜色？", "红色、橙色、黄色、绿色、青色、蓝色和紫色。"),
        ("你会哪些乐器？", "长笛、风琴、小提琴和铃。"),
    ),
}
