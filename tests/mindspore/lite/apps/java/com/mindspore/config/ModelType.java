package com.mindspore.config;

public class ModelType {
    public static final int MT_MINDIR = 0;
    public static final int MT_MINDIR_LITE = 4;
}
