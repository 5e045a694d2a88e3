"""Pictures in and out of files."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from graph_engine import Effect, File, Image, Mask, NodeContext, Widget, node

CATEGORY = "media/image"
Quality = Annotated[int, Widget(min=1, max=100)]


class LoadedImage(NamedTuple):
    image: Image
    mask: Mask


@node(id="media.load_image", category=CATEGORY)
def load_image(
    context: NodeContext,
    file: Annotated[str, Widget(upload="image")],
    frames: Literal["first", "all"] = "first",
) -> LoadedImage:
    """Read a picture: PNG, JPEG, WebP, GIF, TIFF, BMP and what else Pillow knows, turned upright as its EXIF says.

    Returns IMAGE "B H W 3" and MASK "B H W", which is 1 where the picture is transparent (1 - alpha, as in ComfyUI).
    frames: of an animation the first picture, or all of them as a batch.
    """
    from nodes.media.image_file import read_image

    return LoadedImage(*read_image(context.input_path(file), frames == "all"))


@node(id="media.save_image", category=CATEGORY, effect=Effect.EXTERNAL, output=True)
def save_image(
    context: NodeContext,
    image: Image,
    name: str = "image",
    format: Literal["png", "jpeg", "webp"] = "png",
    quality: Quality = 90,
    lossless: bool = False,
    embed_workflow: bool = True,
) -> list[File]:
    """Write every picture of the batch "B H W C" to a file of its own in the output folder.

    quality: of JPEG and WebP. lossless: of WebP. embed_workflow: the file carries this workflow and opens as it.
    """
    return _write(context, image, name, format, quality, lossless, embed_workflow, temporary=False)


@node(id="media.preview_image", category=CATEGORY, effect=Effect.EXTERNAL, output=True)
def preview_image(context: NodeContext, image: Image) -> list[File]:
    """Show every picture of the batch "B H W C"; the files are temporary."""
    return _write(context, image, "preview", "png", 90, False, False, temporary=True)


def _write(
    context: NodeContext,
    images: Any,
    name: str,
    format: str,
    quality: int,
    lossless: bool,
    embed_workflow: bool,
    *,
    temporary: bool,
) -> list[Any]:
    from nodes.media.image_file import MEDIA_TYPES, write_image

    document = context.document if embed_workflow else None
    suffix = "jpg" if format == "jpeg" else format
    files = []
    for number, picture in enumerate(images):
        path = context.output_path(name, suffix, temporary=temporary)
        write_image(path, picture, format, quality, lossless, document)
        files.append(context.file(path, MEDIA_TYPES[format], width=picture.shape[1], height=picture.shape[0]))
        context.progress(number + 1, len(images))
    return files
