"""Media files in and out: time-based reads, files of any length in windows, exact MP4 files, hostile input refused."""

from avgen.media.container import AudioInfo, MediaInfo, VideoInfo, holes, picture_times, probe
from avgen.media.limits import MediaError, MediaLimits
from avgen.media.reader import read, read_image
from avgen.media.resample import resample
from avgen.media.windows import read_pictures, read_windows
from avgen.media.writer import MediaWriter, write

__all__ = [
    "AudioInfo",
    "MediaError",
    "MediaInfo",
    "MediaLimits",
    "MediaWriter",
    "VideoInfo",
    "holes",
    "picture_times",
    "probe",
    "read",
    "read_image",
    "read_pictures",
    "read_windows",
    "resample",
    "write",
]
