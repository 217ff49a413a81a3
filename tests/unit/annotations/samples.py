"""A small valid file of every format, in the columns and keys that its program or publisher writes."""

import json
from pathlib import Path

VIDEOS = [
    "v/a.mp4", "v/b.mp4", "v_x.mp4", "id1_000003_000013.mp4", "7.webm", "Archery/v_Archery_g01_c01.avi",
    "Archery/v_Archery_g08_c01.avi", "Film_wave_u_nm_np1_fr_goo_0.avi",
]  # fmt: skip

BORIS_8 = (
    "Observation id,Observation date,Description,Observation duration,Observation type,Source,Time offset (s),"
    "Media duration (s),FPS,nest,Subject,Behavior,Behavioral category,Modifier #1,Behavior type,Time,Media file name,"
    "Image index,Image file path,Comment\n"
    + "".join(
        f"o1,2024-01-01 10:00:00,,90.0,Media file(s),player #1:/m/v/a.mp4;/m/v/b.mp4,0.0,60.000;30.000,25.000;25.000,"
        f"N7,{subject},{behavior},,,{kind},{time},{media},0,NA,\n"
        for subject, behavior, kind, time, media in (
            ("No focal subject", "groom", "START", "1.500", "/m/v/a.mp4"),
            ("m1", "bite", "POINT", "2.250", "/m/v/a.mp4"),
            ("No focal subject", "groom", "STOP", "65.000", "/m/v/b.mp4"),
        )
    )
)
BORIS_7 = (
    "Observation id\to1\t\t\t\t\t\t\t\n\t\t\t\t\t\t\t\t\nMedia file(s)\t\t\t\t\t\t\t\t\n\t\t\t\t\t\t\t\t\n"
    "Player #1\tv/a.mp4\t\t\t\t\t\t\t\n\t\t\t\t\t\t\t\t\nObservation date\t2016-11-27 01:57:26\t\t\t\t\t\t\t\n"
    "Time offset (s)\t0.0\t\t\t\t\t\t\t\n\t\t\t\t\t\t\t\t\nindependent variables\t\t\t\t\t\t\t\t\n"
    "variable\tvalue\t\t\t\t\t\t\t\nnest\tN7\t\t\t\t\t\t\t\n\t\t\t\t\t\t\t\t\n"
    "Time\tMedia file path\tTotal length\tFPS\tSubject\tBehavior\tBehavioral category\tComment\tStatus\n"
    "3.300\tv/a.mp4\t359.960\t25.0\tm1\tgroom\t\t\tSTART\n7.750\tv/a.mp4\t359.960\t25.0\tm1\tgroom\t\t\tSTOP\n"
)
BORIS_AGGREGATED = (
    "Observation id,Observation date,Description,Observation type,Source,Time offset (s),Coding duration,"
    "Media duration (s),FPS (frame/s),nest,Subject,Observation duration by subject by observation,Behavior,"
    "Behavioral category,Modifier #1,Behavior type,Start (s),Stop (s),Duration (s),Media file name,Image index start,"
    "Image index stop,Image file path start,Image file path stop,Comment start,Comment stop\n"
    "o1,2024-01-01 10:00:00,,Media file,player #1:v/a.mp4,0.0,60.000,60.000,25.000,N7,m1,3.0,groom,Not defined,,STATE,"
    "1.000,2.500,1.500,v/a.mp4,25,62,,,,\n"
    "o1,2024-01-01 10:00:00,,Media file,player #1:v/a.mp4,0.0,60.000,60.000,25.000,N7,m1,3.0,bite,Not defined,,POINT,"
    "3.000,3.000,NA,v/a.mp4,75,,,,,\n"
)
PROJECT = {
    "time_format": "hh:mm:ss", "project_name": "test", "project_format_version": "7.0",
    "behaviors_conf": {
        "0": {"type": "State event", "key": "G", "code": "groom", "modifiers": {}, "excluded": "", "coding map": ""},
        "1": {"type": "Point event with coding map", "key": "B", "code": "bite", "modifiers": {}, "coding map": "m"},
    },
    "observations": {
        "o1": {
            "file": {"1": ["v/a.mp4", "v/b.mp4"], "2": []}, "type": "MEDIA", "date": "2024-01-01T10:00:00",
            "description": "", "time offset": 0.0, "independent_variables": {"nest": "N7"},
            "media_info": {
                "length": {"v/a.mp4": 60.0, "v/b.mp4": 30.0}, "fps": {"v/a.mp4": 25.0, "v/b.mp4": 25.0},
                "hasVideo": {"v/a.mp4": True}, "hasAudio": {"v/a.mp4": False}, "offset": {"1": 0.0, "2": 0.0},
            },
            "events": [[1.5, "", "groom", "", "", 37], [2.25, "m1", "bite", "None", ""], [65.0, "", "groom", "", ""]],
        }
    },
}  # fmt: skip
VIA = (
    "# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)\n"
    '# ATTRIBUTE = {"1":{"aname":"Activity","anchor_id":"FILE1_Z2_XY0","type":4,"desc":"","options":{"0":"walk",'
    '"1":"run"},"default_option_id":""},"2":{"aname":"Note","type":1,"options":{"default":"Default"}}}\n'
    "# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata\n"
    '"1_a","[""a.mp4""]",0,"[1.5,2.75]","[]","{""1"":""0""}"\n"1_b","[""b.mp4""]",0,"[3]","[]","{""2"":""hop""}"\n'
)
ACTIVITYNET = {
    "database": {
        "x": {
            "duration": 82.7, "subset": "training", "resolution": "1920x1080", "url": "https://example.org/x",
            "annotations": [{"segment": [6.2, 77.1], "label": "Archery"}],
        },
        "unseen": {"duration": 9.0, "subset": "testing", "annotations": [], "url": "", "resolution": "1x1"},
    },
    "taxonomy": [{"parentName": "Root", "nodeName": "Archery", "nodeId": 1, "parentId": 0}],
    "version": "VERSION 1.3",
}  # fmt: skip

SAMPLES: dict[str, tuple[str, dict[str, str]]] = {  # format: the file to name, and all files
    "boris_csv": ("events.csv", {"events.csv": BORIS_8}),
    "boris_csv 7": ("events.tsv", {"events.tsv": BORIS_7}),
    "boris_csv aggregated": ("aggregated.csv", {"aggregated.csv": BORIS_AGGREGATED}),
    "boris_project": ("p.boris", {"p.boris": json.dumps(PROJECT, indent=1)}),
    "manifest": ("m.csv", {"m.csv": 'path,label,group,role,note\nv/a.mp4,jump,g1,train,"x, y"\nv/b.mp4,run,g2,,\n'}),
    "frame_csv": ("labels", {"labels/a.csv": "frame,background,groom\n0,1,0\n1,0,1\n2,-1,-1\n"}),
    "via_csv": ("via.csv", {"via.csv": VIA}),
    "activitynet": ("net.json", {"net.json": json.dumps(ACTIVITYNET, indent=1)}),
    "kinetics": ("train.csv", {"train.csv": "youtube_id,time_start,time_end,split,label\nid1,3,13,train,jump\n"}),
    "something_something": (
        "train.json",
        {
            "train.json": '[{"id": "7", "label": "a", "template": "Spinning [something]", "placeholders": ["it"]}]',
            "labels.json": '{"Spinning something": "0"}',
            "test.json": '[{"id": "9"}]',
        },
    ),
    "path_label": ("list.txt", {"list.txt": "v/a.mp4 0\nv/b.mp4 1\n", "classes.txt": "jump\nrun\n"}),
    "ucf101": (
        "trainlist01.txt",
        {
            "trainlist01.txt": "Archery/v_Archery_g08_c01.avi 1\n",
            "testlist01.txt": "Archery/v_Archery_g01_c01.avi\n",
            "classInd.txt": "1 Archery\n",
        },
    ),
    "hmdb51": ("wave_test_split1.txt", {"wave_test_split1.txt": "Film_wave_u_nm_np1_fr_goo_0.avi 1 \n"}),
}  # fmt: skip


def write_sample(name: str, folder: Path) -> Path:
    """The path to name as annotations."""
    main, files = SAMPLES[name]
    for key, text in files.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_text(text, encoding="utf-8")
    return folder / main
