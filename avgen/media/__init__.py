"""Media files in and out: time-based reads, exact MP4 files, hostile input refused."""

from avgen.media.container import AudioInfo, MediaInfo, VideoInfo, probe
from avgen.media.limits import MediaError, MediaLimits
from avgen.media.reader import read, read_image
from avgen.media.resample import resample
from avgen.media.writer import MediaWriter, write

__all__ = [
    "AudioInfo",
    "MediaError",
    "MediaInfo",
    "MediaLimits",
    "MediaWriter",
    "VideoInfo",
    "probe",
    "read",
    "read_image",
    "resample",
    "write",
]
